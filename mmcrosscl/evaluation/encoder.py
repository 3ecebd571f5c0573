"""Backbone and neck of a checkpoint, which return every feature map by name."""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from mmengine.device import get_device
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from torch import Tensor

from mmcrosscl.checkpoints import UNKNOWN, convert_for_model, read_checkpoint, stored_config
from mmcrosscl.detectors import Detector, drop_weights, find_detector
from mmcrosscl.engine.config import read_config
from mmcrosscl.errors import InputError
from mmcrosscl.models import CrossCL, ViewPreprocessor
from mmcrosscl.registry import MODELS, find_component


class Encoder(BaseModule):
    """Backbone and neck of a CrossCL or of a detector, in eval mode.

    Args:
        parts (Detector): Configs of the parts.

    Raises:
        InputError: If a component is not registered or cannot be built.
    """

    def __init__(self, parts: Detector) -> None:
        super().__init__()
        self.name = parts.name
        self.data_preprocessor = ViewPreprocessor(**parts.preprocessor)
        with DefaultScope.overwrite_default_scope(parts.scope):
            try:
                self.backbone = MODELS.build(parts.backbone)
                # a detector with several necks in a row has a list of them
                self.neck = None if parts.neck is None else MODELS.build(parts.neck)
            # the constructor of a component may raise any exception
            except Exception as error:
                raise InputError(
                    f'the model of {parts.name} cannot be built ({error}); pass its config with '
                    '--config'
                ) from error
        self.eval()

    def _dump_init_info(self) -> None:
        """Omit MMEngine's log of the initialization, which has a line per parameter."""

    @torch.no_grad()
    def encode(self, views: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Encode a batch of views.

        Args:
            views (Tensor): (N, 3, S, S) uint8 or float, RGB, with values from 0 to 255.

        Returns:
            tuple[dict[str, Tensor], dict[str, Tensor]]: The levels of the neck, and the stages of
            the backbone, each an (N, C, H, W) map. Levels of a CrossCL have the names of its neck.
            Otherwise a map of stride 2ⁿ is named pn, and a stage of this stride cn.
        """
        batch = dict(inputs=[views], data_samples=[{} for _ in views])
        images = self.data_preprocessor(batch)['inputs'][0].contiguous()
        stages = self.backbone(images)
        stages = (stages,) if isinstance(stages, Tensor) else tuple(stages)
        levels = {} if self.neck is None else self.neck(stages)
        if not isinstance(levels, Mapping):
            levels = _by_stride('p', levels, views.shape[-1])
        levels = {name: x for name, x in levels.items() if x.dim() == 4}
        return levels, _by_stride('c', stages, views.shape[-1])


def _by_stride(letter: str, maps: Tensor | Sequence[Tensor], size: int) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for x in (maps,) if isinstance(maps, Tensor) else maps:
        power = round(math.log2(size / x.shape[-1]))
        # in small views, several levels have one cell
        while f'{letter}{power}' in named:
            power += 1
        named[f'{letter}{power}'] = x
    return named


def load_encoders(
    checkpoints: Mapping[str, str | None], config: str | None = None, trust: bool = False
) -> dict[str, Encoder]:
    """Load the backbone and the neck of several checkpoints.

    Args:
        checkpoints (Mapping[str, str | None]): Path of each checkpoint by name. None is an
            untrained model of the first checkpoint that has a path, or of ``config``.
        config (str, optional): Config of the models, for checkpoints that do not contain one.
        trust (bool): Unpickle all objects in the checkpoints. Defaults to False.

    Raises:
        InputError: If a checkpoint cannot be read, or an untrained model has no config.
    """
    start = next((path for path in checkpoints.values() if path is not None), config)
    if start is None:
        raise InputError('an untrained model needs a config; pass a checkpoint or --config')
    return {
        name: untrained_encoder(start, config, trust)
        if path is None
        else load_encoder(path, config, trust)
        for name, path in checkpoints.items()
    }


def load_encoder(path: str | Path, config: str | None = None, trust: bool = False) -> Encoder:
    """Load the backbone and the neck of a checkpoint.

    Args:
        path (str | Path): Checkpoint of mmcrosscl, or of a detector of MMDetection.
        config (str, optional): Config of the model. Defaults to the config that MMEngine stored in
            the checkpoint. The stored config is read as literals, so no code in it is run.
        trust (bool): Unpickle all objects in the checkpoint. Defaults to False.

    Raises:
        InputError: If the checkpoint cannot be read, contains no config, or does not fit the model.
    """
    checkpoint = read_checkpoint(path, trust)
    encoder = Encoder(_parts(checkpoint, path, config))
    try:
        conversion = convert_for_model(checkpoint, encoder)
    except InputError as error:
        raise InputError(f'{path}: {error}') from error
    encoder.load_state_dict(conversion.state_dict, strict=False)
    own = {name for name, _ in encoder.named_parameters() if '.projection.' not in name}
    if any(name.startswith('neck.') for name in own - conversion.state_dict.keys()):
        # the levels of random weights would say nothing about the checkpoint
        encoder.neck = None
    return encoder.to(get_device())


def untrained_encoder(path: str | Path, config: str | None = None, trust: bool = False) -> Encoder:
    """Initialize the backbone and the neck of a checkpoint's model at random.

    Args:
        path (str | Path): Checkpoint whose model is initialized.
        config (str, optional): Config of the model; see :func:`load_encoder`.
        trust (bool): Unpickle all objects in the checkpoint. Defaults to False.
    """
    checkpoint = {} if config is not None else read_checkpoint(path, trust)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = Encoder(_parts(checkpoint, path, config))
        encoder.init_weights()
    return encoder.to(get_device())


def _parts(checkpoint: Mapping, path: str | Path, config: str | None) -> Detector:
    if config is None:
        cfg, name = stored_config(checkpoint), str(path)
    else:
        cfg, name = read_config(config), config
    model = cfg.get('model')
    if not isinstance(model, Mapping):
        raise InputError(
            f'{name} contains no config of a model; pass the config of the model with --config'
        )
    if _has_code(model):
        raise InputError(
            f'the config stored in {name} contains code, which is not run; pass the config of the '
            'model with --config'
        )
    scope = cfg.get('default_scope') or 'mmdet'
    with DefaultScope.overwrite_default_scope(scope):
        kind = find_component(model.get('type'))
    if not (isinstance(kind, type) and issubclass(kind, CrossCL)):
        return find_detector(cfg, name, keep_weights=False)
    backbone, neck = deepcopy(model['backbone']), deepcopy(model['neck'])
    drop_weights([backbone, neck])
    preprocessor = dict(model.get('data_preprocessor') or {})
    preprocessor.pop('type', None)
    return Detector(name, backbone, neck, preprocessor, scope, (), ())


def _has_code(value: object) -> bool:
    if isinstance(value, Mapping):
        return UNKNOWN in value or any(map(_has_code, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_code, value))
    return value is UNKNOWN
