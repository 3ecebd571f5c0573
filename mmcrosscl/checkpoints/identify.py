"""Identification of the project that wrote a checkpoint, and translation of its weight names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor

from mmcrosscl.errors import InputError

from .formats import COARSE, DETECTOR, FORMATS, PYRAMID, Skipped
from .normalization import InputFormat, read_input_format
from .search import Targets, find_resnet
from .validate import few, is_partial_resnet, resnet_depth, validate_weights

CROSSCL = FORMATS[0]


@dataclass(frozen=True)
class Source:
    """An identified checkpoint.

    Attributes:
        kind: Human-readable name of the project that wrote the checkpoint.
        weights: Maps each CrossCL name to its tensor. Tensors are shared with the checkpoint,
            except for a queue that the checkpoint stores transposed, and counters that the
            checkpoint lacks.
        origin: Maps each CrossCL name to the name in the checkpoint. Counters that the checkpoint
            lacks are not included.
        skipped: Maps each skipped name in the checkpoint to the reason.
        input_format: Format of the images that the weights were trained with.
        neck: Maps the name of each weight of a detector's neck in the detector, such as
            'neck.convs.0.weight', to the name in the checkpoint. The checkpoint is that of a
            detector, or of a CrossCL whose neck contains a detector's neck.
        neck_weights: Maps the names of ``neck`` to their tensors.
    """

    kind: str
    weights: dict[str, Tensor]
    origin: dict[str, str]
    skipped: dict[str, Skipped]
    input_format: InputFormat
    neck: dict[str, str]
    neck_weights: dict[str, Tensor]


def identify(checkpoint: Mapping, raw: bool = False, prefix: str | None = None) -> Source:
    """Identify the project that wrote a checkpoint, and translate its weight names to CrossCL's.

    These checkpoints are supported:

    - CrossCL of mmcrosscl, with any backbone: a training checkpoint or only the weights, with or
      without averaging by MMEngine's ``EMAHook``.
    - MMDetection and MMPretrain, with any backbone and neck.
    - With ResNet-18, -34, -50, -101 or -152: CrossCL of the reference implementation, MoCo v1 and
      v2, DenseCL, ReSim, Detectron2, torchvision and timm.
    - Any other project whose checkpoint contains one of these ResNets; see :func:`find_resnet`.

    Args:
        checkpoint (Mapping): Contents of the file; see :func:`read_checkpoint`.
        raw (bool): Use the weights before averaging instead of the averaged weights. Requires an
            averaged checkpoint. Defaults to False.
        prefix (str, optional): Use only the ResNet whose names begin with this prefix. Defaults to
            None (the project determines the weights).

    Returns:
        Source: The identified checkpoint. Weights of a ResNet are complete and have consistent
        shapes. Weights of another backbone, and of a detector's neck, are not checked.

    Raises:
        InputError: If the checkpoint has no weights, a name is unknown or missing, or a shape does
            not match.
    """
    state, skipped, average = _state_dict(checkpoint, raw)
    state = {_unwrapped(name): value for name, value in state.items()}
    # an averaged model that is saved by itself includes its counter of steps
    state.pop('steps', None)
    kind, targets = _translate(state) if prefix is None else _below(state, _unwrapped(prefix))
    skipped |= {name: target for name, target in targets.items() if isinstance(target, Skipped)}
    origin = {t: name for name, t in targets.items() if not isinstance(t, Skipped)}
    origin = _over_c2_to_c5(origin, state, skipped)
    weights = {target: state[name] for target, name in origin.items()}
    if origin.get('queue.keys') == 'queue' and weights['queue.keys'].ndim == 2:
        weights['queue.keys'] = weights['queue.keys'].T.contiguous()
    if origin.get('queue.pointer') == 'queue_ptr' and weights['queue.pointer'].numel() == 1:
        weights['queue.pointer'] = weights['queue.pointer'].reshape(())
    input_format = read_input_format(checkpoint, state, kind)
    if 'backbone.layer1.0.conv3.weight' not in weights:
        input_format = replace(input_format, style=None)
    if _is_checked(kind, weights, checkpoint):
        validate_weights(weights)
    start = 'neck.detector.' if kind == CROSSCL.kind else 'neck.'
    neck = {
        f'neck.{name.removeprefix(start)}': name
        for name in state
        if prefix is None and name.startswith(start)
    }
    tensors = {name: state[original] for name, original in neck.items()}
    return Source(kind + average, weights, origin, skipped, input_format, neck, tensors)


def _unwrapped(name: str) -> str:
    """Return a name without the prefixes of DistributedDataParallel and torch.compile."""
    return re.sub(r'\b(?:module|_orig_mod)\.', '', name)


def _translate(state: Mapping[str, Tensor]) -> tuple[str, Targets]:
    """Return the kind of project, and the CrossCL name or the reason to skip it for every name."""
    known = next((f for f in FORMATS if any(re.fullmatch(f.telltale, n) for n in state)), None)
    translated = {name: known.translate(name) for name in state} if known else {}
    unknown = [name for name, target in translated.items() if target is None]
    targets = {name: target for name, target in translated.items() if target is not None}
    detector = known is not None and known.kind == DETECTOR.kind
    if known and not unknown and not (detector and _is_other_backbone(_weights(targets, state))):
        return known.kind, targets
    if known is None or known.common:
        if (found := find_resnet(state)) is not None:
            return found
        if detector or known is None and any(re.fullmatch(DETECTOR.telltale, n) for n in state):
            # the last rule matches every name
            return DETECTOR.kind, cast(Targets, {n: DETECTOR.translate(n) for n in state})
    if known is None:
        raise InputError(
            f'no known checkpoint format has names such as {few(state)}; pass a checkpoint of '
            'CrossCL, MoCo, DenseCL, ReSim, MMPretrain, MMDetection, Detectron2, torchvision or '
            'timm, or one with a ResNet-18 to -152'
        )
    raise InputError(
        f'{len(unknown)} unknown {"name" if len(unknown) == 1 else "names"} in a checkpoint of '
        f'{known.kind}: {few(unknown)}; pass an unmodified checkpoint of the project'
    )


def _below(state: Mapping[str, Tensor], prefix: str) -> tuple[str, Targets]:
    """Do the same with only the ResNet whose names begin with a prefix."""
    if (found := find_resnet(state, prefix)) is None:
        raise InputError(
            f'no ResNet-18 to -152 is below the prefix {prefix}; name a prefix of names such as '
            f'{few(state)}'
        )
    return found


def _weights(targets: Targets, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {t: state[name] for name, t in targets.items() if not isinstance(t, Skipped)}


def _is_other_backbone(weights: Mapping[str, Tensor]) -> bool:
    return resnet_depth(weights) is None and not is_partial_resnet(weights)


def _is_checked(kind: str, weights: Mapping[str, Tensor], checkpoint: Mapping) -> bool:
    """Return whether the weights must be those of a ResNet and an FPN."""
    if kind != CROSSCL.kind:
        return kind != DETECTOR.kind or not _is_other_backbone(weights)
    if any(name.startswith('neck.detector.') for name in weights):
        return False
    # mmcrosscl trains any backbone, and its older releases did not store the input format
    meta = checkpoint.get('meta')
    recent = isinstance(meta, Mapping) and 'input_format' in meta
    return 'backbone.conv1.weight' in weights and not (recent and resnet_depth(weights) is None)


def _state_dict(checkpoint: Mapping, raw: bool) -> tuple[dict, dict[str, Skipped], str]:
    """Return the state dict, the skipped entries, and a suffix for ``kind`` about averaging."""
    skipped, average = {}, ''
    entries = (checkpoint.get(entry) for entry in ('state_dict', 'model'))
    state = next((dict(entry) for entry in entries if isinstance(entry, Mapping)), None)
    if state is None:
        state = _nested(checkpoint) or dict(checkpoint)
    if 'ema_state_dict' in checkpoint:
        # EMAHook saves the average as the state dict and the raw weights as ema_state_dict
        if raw:
            state |= {k.removeprefix('module.'): v for k, v in checkpoint['ema_state_dict'].items()}
            average = ', before averaging'
        else:
            skipped['ema_state_dict'] = Skipped('the weights before averaging; --raw selects them')
            average = ', averaged'
    elif raw:
        raise InputError('the checkpoint has no averaged weights; omit --raw')
    others = [
        str(name)
        for name, value in state.items()
        if not isinstance(name, str) or not isinstance(value, Tensor)
    ]
    if others or not state:
        raise InputError(
            f'not a checkpoint: expected weights, but got {few(others) or "nothing"}; pass a file '
            'with a state dict'
        )
    return state, skipped, average


def _nested(checkpoint: Mapping) -> dict[str, Tensor]:
    """Join the state dicts of several networks, such as DINO's student and teacher."""
    if any(isinstance(value, Tensor) for value in checkpoint.values()):
        return {}
    return {
        f'{entry}.{name}': value
        for entry, values in checkpoint.items()
        if isinstance(values, Mapping) and all(isinstance(x, Tensor) for x in values.values())
        for name, value in values.items()
    }


def _over_c2_to_c5(
    origin: dict[str, str], state: dict[str, Tensor], skipped: dict[str, Skipped]
) -> dict[str, str]:
    """Renumber the levels of a pyramid that starts at C3, as in RetinaNet: C2 becomes level 0."""
    first = origin.get('neck.lateral_convs.0.conv.weight')
    c3 = origin.get('backbone.layer2.0.downsample.1.weight')
    if first is None or c3 is None or state[first].shape[1:2] != state[c3].shape:
        return origin
    renumbered = {}
    for target, name in origin.items():
        if match := re.fullmatch(rf'({PYRAMID})(\d)(.+)', target):
            head, level, rest = match.groups()
            if level == '3':
                skipped[name] = COARSE
                continue
            target = f'{head}{int(level) + 1}{rest}'
        renumbered[target] = name
    return renumbered
