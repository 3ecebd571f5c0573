"""Initialization of a detector or classifier from a pre-training checkpoint."""

from typing import Any

from mmdet.models import SemiBaseDetector
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from mmengine.runner import Runner
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import nn

from mmcrosscl.checkpoints import Conversion, convert_for_model, fitting_names, read_checkpoint
from mmcrosscl.detectors import initial_checkpoints
from mmcrosscl.engine.sources import load_from_setting
from mmcrosscl.engine.unwrap import unwrap_model
from mmcrosscl.errors import InputError
from mmcrosscl.registry import HOOKS

MISSING = object()
# initialization of MMDetection's and MMPretrain's ResNet
RANDOM = [
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
]


@HOOKS.register_module()
class PretrainedHook(Hook):
    """Load the backbone and the neck from the checkpoint in the setting ``pretrained``.

    ``pretrained`` is a top-level setting like ``load_from``. None keeps random weights. Every
    format that :func:`mmcrosscl.checkpoints.identify` detects is accepted. If the model reads
    images with another channel order or normalization than the checkpoint, the first convolution is
    adapted, and the log says so.

    The checkpoint is loaded before training, or before testing if the config has no training. It is
    not loaded if the run resumes. If the config also sets ``load_from``, such as a detector trained
    on COCO, that checkpoint is loaded first, and the other parts keep its weights, such as the
    heads. A pre-training, which has a key encoder too, then starts from ``load_from`` alone.

    A backbone that the config initializes from another checkpoint, by ``init_cfg`` of type
    'Pretrained', is initialized at random instead, so that nothing is downloaded to be replaced.
    In a semi-supervised detector of MMDetection, the student and the teacher are initialized.
    The hook warns of a backbone that is frozen in part: the recipe trains every layer.
    """

    # before EMAHook, which copies the model
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._loaded = False
        # names of the weights that load_from has
        self._given: set[str] = set()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note that the runner has loaded a checkpoint: it resumes or starts from ``load_from``."""
        self._loaded = True
        names = fitting_names(checkpoint, unwrap_model(runner.model))
        # a semi-supervised detector has the other names in its student
        self._given = {name.removeprefix('student.') for name in names}

    def before_run(self, runner: Runner) -> None:
        """Replace a 'Pretrained' ``init_cfg`` of the backbone by a random initialization."""
        resumes = runner.cfg.get('resume') and runner.cfg.get('new_run_load_from') is None
        if runner.cfg.get('pretrained') is None and load_from_setting(runner.cfg) and not resumes:
            return
        for model in _models(runner):
            # a model without a backbone is an error in before_train
            backbone: Any = getattr(model, 'backbone', None)
            settings = dict(init_cfg=getattr(backbone, 'init_cfg', None))
            # DetectoRS moves its init_cfg here
            settings['pretrained'] = getattr(backbone, 'pretrained', None)
            if not (replaced := initial_checkpoints(settings)):
                continue
            if settings['init_cfg']:
                backbone.init_cfg = RANDOM if _accepts_list(backbone) else None
            if settings['pretrained']:
                backbone.pretrained = None
            runner.logger.info(
                f'pretrained: the initial weights of the backbone ({", ".join(replaced)}) are not '
                'used'
            )

    def before_train(self, runner: Runner) -> None:
        """Load the checkpoint, unless the run resumes.

        Raises:
            InputError: If ``pretrained`` is not set, or its checkpoint cannot be read or does not
                fit the model.
        """
        path = runner.cfg.get('pretrained', MISSING)
        if self._loaded and runner.iter > 0:
            runner.logger.info('pretrained: not loaded, because the run resumes')
            return
        # a test without training is of the weights in load_from
        trains = runner.cfg.get('train_cfg') is not None
        if self._loaded and (path in (MISSING, None) or not trains):
            return
        if self._loaded and hasattr(unwrap_model(runner.model), 'key_encoder'):
            runner.logger.warning(
                'pretrained: not loaded, because a pre-training with load_from starts from that '
                'checkpoint alone; set pretrained=None'
            )
            return
        if path is MISSING:
            raise InputError(
                'the config has no setting `pretrained`; set it to a checkpoint, or to None for '
                'random weights'
            )
        if path is None:
            runner.logger.info('pretrained: None, the weights are random')
            return
        checkpoint = read_checkpoint(path, runner.cfg.get('trust_checkpoints', False))
        models = _models(runner)
        conversion = convert_for_model(checkpoint, models[0])
        for model in models:
            model.load_state_dict(conversion.state_dict, strict=False)
        self._report(runner, path, conversion)
        if trains:
            self._check_training(runner)

    def before_test(self, runner: Runner) -> None:
        """Load the checkpoint if nothing is trained, as for nearest neighbors."""
        if runner.cfg.get('train_cfg') is None:
            self.before_train(runner)

    @master_only
    def _report(self, runner: Runner, path: str, conversion: Conversion) -> None:
        loaded = conversion.state_dict
        names = [name for name, _ in _models(runner)[0].named_parameters()]
        kept = [name for name in names if name not in loaded and name in self._given]
        random = [name for name in names if name not in loaded and name not in self._given]
        if self._loaded:
            source = load_from_setting(runner.cfg)
            runner.logger.info(
                f'pretrained: the weights of {source} remain in {_parts(kept, names)}'
            )
        runner.logger.info(
            f'pretrained: {path}, {conversion.kind}; {len(loaded)} tensors are loaded, and random '
            f'weights remain in {_parts(random, names)}'
        )
        lines = [conversion.table(), f'random weights: {", ".join(random) or "none"}']
        if self._loaded:
            lines.append(f'weights of load_from: {", ".join(kept) or "none"}')
        runner.logger.info(
            '\n'.join(lines),
            extra=dict(file_only=True),
        )
        for note in conversion.notes:
            runner.logger.info(f'pretrained: {note}')
        for warning in conversion.warnings:
            runner.logger.warning(f'pretrained: {warning}')

    @master_only
    def _check_training(self, runner: Runner) -> None:
        backbone: Any = _models(runner)[0].backbone
        settings = dict(
            frozen_stages=getattr(backbone, 'frozen_stages', -1),
            norm_eval=getattr(backbone, 'norm_eval', False),
        )
        # a backbone without any training is that of a linear classifier
        trained = any(parameter.requires_grad for parameter in backbone.parameters())
        if trained and (settings['frozen_stages'] >= 0 or settings['norm_eval']):
            found = ', '.join(f'{name}={value}' for name, value in settings.items())
            runner.logger.warning(
                f'The backbone has {found}: a part of the pre-trained weights or batch-norm '
                'statistics stays fixed. To train every layer, as in the published recipe, set '
                'model.backbone.frozen_stages=-1 and model.backbone.norm_eval=False.'
            )


def _parts(some: list[str], names: list[str]) -> str:
    """Return the modules that some parameters belong to, and say which have others too."""
    others = {name.partition('.')[0] for name in set(names) - set(some)}
    parts = dict.fromkeys(name.partition('.')[0] for name in some)
    described = [f'part of {part}' if part in others else part for part in parts]
    return ', '.join(described) or 'no module'


def _accepts_list(backbone: nn.Module) -> bool:
    """Return whether the backbone is initialized by MMEngine, or by code of its own.

    MMDetection's own code, such as that of Swin, accepts a checkpoint or None only.
    """
    generic = getattr(type(backbone), 'init_weights', None) is BaseModule.init_weights
    return generic or isinstance(backbone, BaseBackbone)


def _models(runner: Runner) -> list[nn.Module]:
    """Return the models with a backbone. Those of one run have the same architecture."""
    model = unwrap_model(runner.model)
    return [model.student, model.teacher] if isinstance(model, SemiBaseDetector) else [model]
