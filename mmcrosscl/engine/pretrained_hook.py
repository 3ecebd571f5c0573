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

    ``pretrained`` stands at the top of the config, beside ``load_from``, so that a config that
    inherits or ``--cfg-options pretrained=epoch_200.pth`` sets it in one place; None is a random
    start. Any checkpoint that :func:`mmcrosscl.checkpoints.identify` knows will do.

    It is loaded before training, or before testing where the config has no training. A run that is
    resumed, or starts from ``load_from``, is left as it is.
    """

    # before EMAHook, which begins with a copy of the model
    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Load the checkpoint, unless the runner has loaded one of its own.

        Raises:
            InputError: If ``pretrained`` is not set, or its checkpoint cannot be read or does not
                fit the model.
        """
        # whether it resumed or took `load_from` is nowhere public
        if runner._has_loaded:
            runner.logger.info('pretrained: not loaded, the run goes on from another checkpoint')
            return
        path = runner.cfg.get('pretrained', MISSING)
        if path is MISSING:
            raise InputError(
                'the config does not say what to start from; set pretrained = to a checkpoint, or '
                'to None for a random start'
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
        """Load the checkpoint where nothing is trained, as for nearest neighbours."""
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
