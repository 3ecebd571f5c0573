"""Identification of the project that wrote a checkpoint, and translation of its weight names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mmcrosscl.errors import InputError

from .formats import COARSE, FORMATS, PYRAMID, Skipped
from .validate import few, validate_weights


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
    """

    kind: str
    weights: dict[str, Tensor]
    origin: dict[str, str]
    skipped: dict[str, Skipped]


def identify(checkpoint: Mapping, raw: bool = False) -> Source:
    """Identify the project that wrote a checkpoint, and translate its weight names to CrossCL's.

    These checkpoints are supported:

    - CrossCL of mmcrosscl, with any backbone: a training checkpoint or only the weights, with or
      without averaging by MMEngine's ``EMAHook``.
    - With ResNet-18, -34, -50, -101 or -152: CrossCL of the reference implementation, MoCo v1 and
      v2, DenseCL, ReSim, MMPretrain, MMDetection, Detectron2, torchvision and timm.

    Args:
        checkpoint (Mapping): Contents of the file; see :func:`read_checkpoint`.
        raw (bool): Use the weights before averaging instead of the averaged weights. Requires an
            averaged checkpoint. Defaults to False.

    Returns:
        Source: The identified checkpoint. Its weights are complete and have consistent shapes.
        Weights with a backbone other than a ResNet are not checked.

    Raises:
        InputError: If the checkpoint has no weights, a name is unknown or missing, or a shape does
            not match.
    """
    state, skipped, average = _state_dict(checkpoint, raw)
    # DistributedDataParallel and torch.compile add prefixes to names
    state = {re.sub(r'\b(?:module|_orig_mod)\.', '', k): value for k, value in state.items()}
    # an averaged model that is saved by itself includes its counter of steps
    state.pop('steps', None)
    known = next((f for f in FORMATS if any(re.fullmatch(f.telltale, n) for n in state)), None)
    if known is None:
        raise InputError(
            f'no known checkpoint format has names such as {few(state)}; pass a checkpoint of '
            'CrossCL, MoCo, DenseCL, ReSim, MMPretrain, MMDetection, Detectron2, torchvision or '
            'timm'
        )
    origin, unknown = {}, []
    for name in state:
        target = known.translate(name)
        if target is None:
            unknown.append(name)
        elif isinstance(target, Skipped):
            skipped[name] = target
        else:
            origin[target] = name
    if unknown:
        raise InputError(
            f'{len(unknown)} unknown {"name" if len(unknown) == 1 else "names"} in a checkpoint of '
            f'{known.kind}: {few(unknown)}; pass an unmodified checkpoint of the project'
        )
    origin = _over_c2_to_c5(origin, state, skipped)
    weights = {target: state[name] for target, name in origin.items()}
    if origin.get('queue.keys') == 'queue' and weights['queue.keys'].ndim == 2:
        weights['queue.keys'] = weights['queue.keys'].T.contiguous()
    if origin.get('queue.pointer') == 'queue_ptr' and weights['queue.pointer'].numel() == 1:
        weights['queue.pointer'] = weights['queue.pointer'].reshape(())
    if known is not FORMATS[0] or 'backbone.conv1.weight' in weights:
        validate_weights(weights)
    return Source(known.kind + average, weights, origin, skipped)


def _state_dict(checkpoint: Mapping, raw: bool) -> tuple[dict, dict[str, Skipped], str]:
    """Return the state dict, the skipped entries, and a suffix for ``kind`` about averaging."""
    skipped, average = {}, ''
    entries = (checkpoint.get(entry) for entry in ('state_dict', 'model'))
    state = dict(next((entry for entry in entries if isinstance(entry, Mapping)), checkpoint))
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
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        raise InputError(
            f'not a checkpoint: expected weights, but got {few(others) or "nothing"}; pass a file '
            'with a state dict'
        )
    return state, skipped, average


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
