"""What a checkpoint is, and its weights under our names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mmcrosscl.errors import InputError

from .formats import COARSE, FORMATS, PYRAMID, LeaveOut
from .validate import few, validate_weights


@dataclass(frozen=True)
class Source:
    """A recognised checkpoint.

    Attributes:
        kind: Whose it is, in words.
        weights: Our name to tensor. Tensors are shared with the checkpoint, except for a queue that
            was stored the other way round and counters that it lacks.
        origin: Our name to the name in the checkpoint.
        left_out: Name in the checkpoint to why it is not among the weights.
    """

    kind: str
    weights: dict[str, Tensor]
    origin: dict[str, str]
    left_out: dict[str, LeaveOut]


def identify(checkpoint: Mapping, raw: bool = False) -> Source:
    """Find out whose checkpoint it is, and take its weights under our names.

    Known are CrossCL's of ours (whole or weights alone, with or without averaging by MMEngine's
    ``EMAHook``) and of the reference, MoCo v1 and v2, DenseCL, ReSim, MMPretrain, MMDetection,
    Detectron2, torchvision and timm, all with ResNet-18 to -152. Ours may have any backbone.

    Args:
        checkpoint (Mapping): What the file holds; see :func:`read_checkpoint`.
        raw (bool): Of an averaged checkpoint, the weights before averaging. Defaults to False.

    Returns:
        Source: Whole and of fitting shapes.

    Raises:
        InputError: If there are no weights, or names are unknown or missing, or shapes do not fit.
    """
    state, left_out, average = _state_dict(checkpoint, raw)
    # data parallelism and torch.compile write themselves into the names
    state = {re.sub(r'\b(?:module|_orig_mod)\.', '', k): value for k, value in state.items()}
    # of an averaged model that was saved by itself
    state.pop('steps', None)
    known = next((f for f in FORMATS if any(re.fullmatch(f.telltale, n) for n in state)), None)
    if known is None:
        raise InputError(
            f'no known checkpoint: it has names such as {few(state)}; give one of CrossCL, MoCo, '
            'DenseCL, ReSim, MMPretrain, MMDetection, Detectron2, torchvision or timm'
        )
    origin, unknown = {}, []
    for name in state:
        ours = known.translate(name)
        if ours is None:
            unknown.append(name)
        elif isinstance(ours, LeaveOut):
            left_out[name] = ours
        else:
            origin[ours] = name
    if unknown:
        raise InputError(
            f'{len(unknown)} unknown {"name" if len(unknown) == 1 else "names"} in a checkpoint of '
            f'{known.kind}: {few(unknown)}; give one as its project writes it'
        )
    origin = _over_c2_to_c5(origin, state, left_out)
    weights = {ours: state[name] for ours, name in origin.items()}
    if origin.get('queue.keys') == 'queue' and weights['queue.keys'].ndim == 2:
        weights['queue.keys'] = weights['queue.keys'].T.contiguous()
    if origin.get('queue.pointer') == 'queue_ptr' and weights['queue.pointer'].numel() == 1:
        weights['queue.pointer'] = weights['queue.pointer'].reshape(())
    if known is not FORMATS[0] or 'backbone.conv1.weight' in weights:
        validate_weights(weights)
    return Source(known.kind + average, weights, origin, left_out)


def _state_dict(checkpoint: Mapping, raw: bool) -> tuple[dict, dict[str, LeaveOut], str]:
    """Names to tensors, what is left out so far, and which weights of an average these are."""
    left_out, average = {}, ''
    entries = (checkpoint.get(entry) for entry in ('state_dict', 'model'))
    state = dict(next((entry for entry in entries if isinstance(entry, Mapping)), checkpoint))
    if 'ema_state_dict' in checkpoint:
        # EMAHook saves the average as the state dict, and what it averages beside it
        if raw:
            state |= {k.removeprefix('module.'): v for k, v in checkpoint['ema_state_dict'].items()}
            average = ', as it was before averaging'
        else:
            left_out['ema_state_dict'] = LeaveOut('the weights before averaging; --raw takes them')
            average = ', averaged'
    elif raw:
        raise InputError('the checkpoint has no averaged weights; leave --raw away')
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        raise InputError(
            f'no checkpoint: instead of weights it holds {few(others) or "nothing"}; give a file '
            'with a state dict'
        )
    return state, left_out, average


def _over_c2_to_c5(
    origin: dict[str, str], state: dict[str, Tensor], left_out: dict[str, LeaveOut]
) -> dict[str, str]:
    """Renumber a pyramid that starts at C3, as RetinaNet's does; the rest stays."""
    first = origin.get('neck.lateral_convs.0.conv.weight')
    c3 = origin.get('backbone.layer2.0.downsample.1.weight')
    if first is None or c3 is None or state[first].shape[1:2] != state[c3].shape:
        return origin
    renumbered = {}
    for ours, name in origin.items():
        if match := re.fullmatch(rf'({PYRAMID})(\d)(.+)', ours):
            head, place, rest = match.groups()
            if place == '3':
                left_out[name] = COARSE
                continue
            ours = f'{head}{int(place) + 1}{rest}'
        renumbered[ours] = name
    return renumbered
