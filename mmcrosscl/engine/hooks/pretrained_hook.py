"""Starts a detector or classifier from a pre-training checkpoint."""

import re

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmcrosscl.checkpoints import Conversion, convert_for_model, read_checkpoint
from mmcrosscl.errors import InputError
from mmcrosscl.registry import HOOKS

MISSING = object()


@HOOKS.register_module()
class PretrainedHook(Hook):
    """Loads the backbone and the FPN from the checkpoint that the config calls ``pretrained``.

    ``pretrained`` is a top-level setting, as ``load_from`` is; None is a random start. Every format
    that :func:`mmcrosscl.checkpoints.identify` detects is accepted.

    The checkpoint is loaded before training, or before testing if the config has no training. It is
    not loaded if the run resumes or starts from ``load_from``.
    """

    # before EMAHook, which begins with a copy of the model
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._loaded = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note that the run resumes or starts from ``load_from``."""
        self._loaded = True

    def before_train(self, runner: Runner) -> None:
        """Load the checkpoint, unless the runner has loaded another one.

        Raises:
            InputError: If ``pretrained`` is not set, or its checkpoint cannot be read or does not
                fit the model.
        """
        if self._loaded:
            runner.logger.info('pretrained: not loaded, since another checkpoint was')
            return
        path = runner.cfg.get('pretrained', MISSING)
        if path is MISSING:
            raise InputError(
                'the config has no setting `pretrained`; set it to a checkpoint, or to None for a '
                'random start'
            )
        if path is None:
            runner.logger.info('pretrained: None, a random start')
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        checkpoint = read_checkpoint(path, runner.cfg.get('trust_checkpoints', False))
        conversion = convert_for_model(checkpoint, model)
        model.load_state_dict(conversion.state_dict, strict=False)
        self._report(runner, path, conversion)

    def before_test(self, runner: Runner) -> None:
        """Load the checkpoint if nothing is trained, as for nearest neighbors."""
        if runner.cfg.get('train_cfg') is None:
            self.before_train(runner)

    @master_only
    def _report(self, runner: Runner, path: str, conversion: Conversion) -> None:
        names = [name for name, _ in runner.model.named_parameters()]
        rest = [n.removeprefix('module.') for n in names]
        rest = [name for name in rest if name not in conversion.state_dict]
        parts = dict.fromkeys(re.match(r'[^.]+(?:\.[^.]+(?:\.\d+)?)?', n).group() for n in rest)
        runner.logger.info(
            f'pretrained: {path}, {conversion.kind}\n{conversion.table()}\n'
            f'starts at random: {", ".join(parts) or "nothing"}'
        )
