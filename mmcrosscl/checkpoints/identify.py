"""The project that wrote a checkpoint, and its weights under the names of CrossCL."""

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
        kind: The project that wrote it, in words.
        weights: CrossCL name to tensor. Tensors are shared with the checkpoint, except for a queue
            that was stored transposed and counters that the checkpoint lacks.
        origin: CrossCL name to name in the checkpoint.
        skipped: Name in the checkpoint to the reason for which it is not in ``weights``.
    """

    kind: str
    weights: dict[str, Tensor]
    origin: dict[str, str]
    skipped: dict[str, Skipped]


def identify(checkpoint: Mapping, raw: bool = False) -> Source:
    """Identify the project that wrote a checkpoint, and translate its weights to CrossCL's names.

    Known are CrossCL of mmcrosscl (complete or weights alone, with or without averaging by
    MMEngine's ``EMAHook``) and of the reference, MoCo v1 and v2, DenseCL, ReSim, MMPretrain,
    MMDetection, Detectron2, torchvision and timm, all with ResNet-18 to -152. CrossCL of mmcrosscl
    may have any backbone.

    Args:
        checkpoint (Mapping): Contents of the file; see :func:`read_checkpoint`.
        raw (bool): Take the weights before averaging from an averaged checkpoint. Defaults to
            False.

    Returns:
        Source: Complete, with matching shapes.

    Raises:
        InputError: If there are no weights, names are unknown or missing, or shapes do not match.
    """
    state, skipped, average = _state_dict(checkpoint, raw)
    # data parallelism and torch.compile add prefixes
    state = {re.sub(r'\b(?:module|_orig_mod)\.', '', k): value for k, value in state.items()}
    # the counter of an averaged model that was saved alone
    state.pop('steps', None)
    known = next((f for f in FORMATS if any(re.fullmatch(f.telltale, n) for n in state)), None)
    if known is None:
        raise InputError(
            f'no known checkpoint: it has names such as {few(state)}; give one of CrossCL, MoCo, '
            'DenseCL, ReSim, MMPretrain, MMDetection, Detectron2, torchvision or timm'
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
            f'{known.kind}: {few(unknown)}; give one as its project writes it'
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
    """Return names to tensors, the skipped entries, and in words which average was taken."""
    skipped, average = {}, ''
    entries = (checkpoint.get(entry) for entry in ('state_dict', 'model'))
    state = dict(next((entry for entry in entries if isinstance(entry, Mapping)), checkpoint))
    if 'ema_state_dict' in checkpoint:
        # EMAHook saves the average as the state dict and the raw weights as ema_state_dict
        if raw:
            state |= {k.removeprefix('module.'): v for k, v in checkpoint['ema_state_dict'].items()}
            average = ', as it was before averaging'
        else:
            skipped['ema_state_dict'] = Skipped('the weights before averaging; --raw takes them')
            average = ', averaged'
    elif raw:
        raise InputError('the checkpoint has no averaged weights; omit --raw')
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        raise InputError(
            f'not a checkpoint: instead of weights it holds {few(others) or "nothing"}; give a '
            'file with a state dict'
        )
    return state, skipped, average


def _over_c2_to_c5(
    origin: dict[str, str], state: dict[str, Tensor], skipped: dict[str, Skipped]
) -> dict[str, str]:
    """Renumber a pyramid that starts at C3, such as RetinaNet's, to start at C2."""
    first = origin.get('neck.lateral_convs.0.conv.weight')
    c3 = origin.get('backbone.layer2.0.downsample.1.weight')
    if first is None or c3 is None or state[first].shape[1:2] != state[c3].shape:
        return origin
    renumbered = {}
    for target, name in origin.items():
        if match := re.fullmatch(rf'({PYRAMID})(\d)(.+)', target):
            head, place, rest = match.groups()
            if place == '3':
                skipped[name] = COARSE
                continue
            target = f'{head}{int(place) + 1}{rest}'
        renumbered[target] = name
    return renumbered
