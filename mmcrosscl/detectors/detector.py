"""The backbone, the neck and the normalization in the config of a detector."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

from mmdet.models import BaseDetector
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmcrosscl.checkpoints import preprocessor_input_format
from mmcrosscl.errors import InputError
from mmcrosscl.registry import argument_names, default_argument, find_component

# a dict or MMEngine's ConfigDict
Settings = TypeVar('Settings', bound=Mapping)
SYNCHRONIZED = ('SyncBN', 'MMSyncBN', 'naiveSyncBN', 'SyncBatchNorm')


@dataclass(frozen=True)
class Detector:
    """The parts of a detector that can be pre-trained.

    Attributes:
        name: Name of the config file without extension.
        backbone: Config of the backbone, with all layers trainable.
        neck: Config of the neck, or of several necks in a row, with all layers trainable. None if
            the detector has no neck.
        preprocessor: Arguments ``mean``, ``std`` and ``rgb_to_bgr`` of
            :class:`~mmcrosscl.models.ViewPreprocessor` for the normalization of the detector.
        scope: Registry scope of the components.
        imports: Modules that the config imports with ``custom_imports``.
        notes: One sentence for each change and each part that pre-training does not reach.
    """

    name: str
    backbone: dict
    neck: dict | list[dict] | None
    preprocessor: dict
    scope: str
    imports: tuple[str, ...]
    notes: tuple[str, ...]


def find_detector(cfg: Config, name: str, keep_weights: bool = True) -> Detector:
    """Find the backbone, the neck and the normalization in the config of a detector.

    Frozen stages are unfrozen, normalization layers become trainable, and synchronized batch norm
    becomes batch norm, because the key encoder shuffles the images across ranks instead. All other
    settings are kept.

    Args:
        cfg (Config): Config of a detector of MMDetection.
        name (str): Path of the config, for messages.
        keep_weights (bool): Keep the pre-trained weights that the config loads into the backbone.
            False initializes the backbone at random. Defaults to True.

    Raises:
        InputError: If the config has no model, or the model is not a detector with a backbone.
    """
    model = cfg.get('model')
    if not isinstance(model, Mapping):
        raise InputError(f'{name} has no `model`; pass the config of a detector of MMDetection')
    model, notes = deepcopy(model.to_dict() if hasattr(model, 'to_dict') else dict(model)), []
    # as in MMEngine's Runner
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    scope = cfg.get('default_scope') or 'mmdet'
    if (inner := inner_detector(model)) is not model:
        notes.append(f'The detector within {model["type"]} is pre-trained.')
        inner.setdefault('data_preprocessor', model.get('data_preprocessor'))
        model = inner
    with DefaultScope.overwrite_default_scope(scope):
        _check(model, name)
        backbone, neck = model['backbone'], model.get('neck')
        changed: set[str] = set()
        for part in (backbone, *(neck if isinstance(neck, list) else [neck] if neck else [])):
            _make_trainable(part, changed)
            if not keep_weights:
                drop_weights(part)
        # without a neck, no other component depends on the number of stages
        if neck is None and len(indices := tuple(backbone.get('out_indices') or ())) == 1:
            if indices[0] > 0:
                backbone['out_indices'] = (indices[0] - 1, indices[0])
    notes += sorted(changed)
    imports = (cfg.get('custom_imports') or {}).get('imports') or ()
    return Detector(
        name=name.rpartition('/')[2].removesuffix('.py'),
        backbone=backbone,
        neck=neck,
        preprocessor=_preprocessor(model.get('data_preprocessor') or {}, name),
        scope=scope,
        imports=(imports,) if isinstance(imports, str) else tuple(imports),
        notes=tuple(notes),
    )


def inner_detector(model: Settings) -> Settings:
    """Return the detector in the config of a wrapper such as Soft Teacher, or the config itself."""
    wraps = 'type' in (model.get('detector') or {}) and 'tracker' not in model
    return model['detector'] if wraps else model


def _check(model: Mapping, name: str) -> None:
    kind = model.get('type')
    found = find_component(kind) if kind is not None else None
    if found is None:
        raise InputError(
            f'{name}: the model {kind} is not registered; add the module that defines it to '
            'custom_imports in the config'
        )
    if not (isinstance(found, type) and issubclass(found, BaseDetector)):
        raise InputError(
            f'{name} is the config of {kind}, which is not a detector; pass the config of a '
            'detector of MMDetection'
        )
    if not isinstance(model.get('backbone'), Mapping):
        raise InputError(
            f'{name}: the model {kind} has no `backbone` config; pass a detector whose model has a '
            'backbone and, optionally, a neck'
        )


def _preprocessor(settings: Mapping, name: str) -> dict:
    """Return arguments of ViewPreprocessor for a preprocessor of MMDetection, which reads BGR."""
    while isinstance(settings.get('data_preprocessor'), Mapping):
        settings = settings['data_preprocessor']
    if (found := preprocessor_input_format(settings)) is None:
        raise InputError(
            f'{name}: the data_preprocessor has mean {settings.get("mean")} and std '
            f'{settings.get("std")}; set both to three numbers, with std above 0'
        )
    arguments = dict(mean=list(found.mean), std=list(found.std))
    return arguments | (dict(rgb_to_bgr=True) if found.channel_order == 'bgr' else {})


def drop_weights(part: object) -> None:
    """Remove pre-trained weights from the config of a module and all within it, in place."""
    for settings, key in list(_weights(part)):
        del settings[key]


def loads_weights(part: object) -> bool:
    """Return whether the config of a module, or of one within it, loads pre-trained weights."""
    return any(True for _ in _weights(part))


def initial_checkpoints(part: object) -> list[str]:
    """Return the checkpoints that the config of a module, or of one within it, loads."""
    found = []
    for settings, key in _weights(part):
        values = settings[key] if isinstance(settings[key], list) else [settings[key]]
        paths = [value.get('checkpoint') if key == 'init_cfg' else value for value in values]
        found += [path for path in paths if isinstance(path, str)]
    return found


def _weights(part: object) -> Iterator[tuple[dict, str]]:
    """Return the places in the config of a module and all within it that load weights."""
    if isinstance(part, list | tuple):
        for item in part:
            yield from _weights(item)
    if not isinstance(part, dict):
        return
    if part.get('init_cfg') and _is_pretrained(part['init_cfg']):
        yield part, 'init_cfg'
    # a path, or True for the weights of timm
    if part.get('pretrained'):
        yield part, 'pretrained'
    for value in part.values():
        yield from _weights(value)


def _make_trainable(part: object, changed: set[str]) -> None:
    """Change the config of a module and of all modules within it, in place."""
    if isinstance(part, list | tuple):
        for item in part:
            _make_trainable(item, changed)
    if not isinstance(part, dict):
        return
    if _short_name(part.get('type')) in SYNCHRONIZED:
        part['type'] = 'BN'
        changed.add('Batch norm replaces synchronized batch norm during pre-training.')
    if part.get('requires_grad') is False:
        part['requires_grad'] = True
        changed.add('Frozen normalization layers are trained.')
    if isinstance(part.get('type'), str | type):
        with DefaultScope.overwrite_default_scope(part.get('_scope_')):
            found = find_component(part['type'])
        # a component that is not registered is an error when it is built
        if isinstance(found, type):
            _unfreeze(part, found, changed)
    for value in part.values():
        _make_trainable(value, changed)


def _short_name(kind: object) -> str:
    """Return the name of a component, without its module."""
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition('.')[2]


def _unfreeze(part: dict, component: type, changed: set[str]) -> None:
    names = argument_names(component) or ()
    # the value of an unfrozen backbone is -1 or 0, and always the default of its class
    values = dict(frozen_stages=default_argument(component, 'frozen_stages'), norm_eval=False)
    for argument, value in values.items():
        default = default_argument(component, argument)
        if (argument in part or argument in names) and part.get(argument, default) != value:
            part[argument] = value
            changed.add('Frozen stages and batch-norm statistics are trained.')


def _is_pretrained(init_cfg: Mapping | list) -> bool:
    settings = init_cfg if isinstance(init_cfg, list) else [init_cfg]
    # some backbones, such as PVT, read a checkpoint without a type
    return any(one.get('type') == 'Pretrained' or 'checkpoint' in one for one in settings)
