"""From any known checkpoint to any known format."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import commonprefix

from torch import Tensor

from mmcrosscl.errors import InputError

from .formats import PYRAMID, LeaveOut, to_detectron2
from .identify import identify

TARGETS = ('crosscl', 'mmdet', 'mmdet-backbone', 'detectron2', 'torchvision', 'timm')


@dataclass(frozen=True)
class Conversion:
    """What became of a checkpoint.

    Attributes:
        kind: Whose the checkpoint is, in words.
        to: The format that it was converted to.
        state_dict: The result, names to tensors.
        origin: Name in the result to name in the checkpoint.
        left_out: Name in the checkpoint to why it is not in the result.
    """

    kind: str
    to: str
    state_dict: dict[str, Tensor]
    origin: dict[str, str]
    left_out: dict[str, str]

    def contents(self) -> dict:
        """What a file of the target's has around the state dict."""
        if self.to == 'detectron2':
            # its checkpointer then finds the model's names by their ends: with and without an FPN
            return dict(model=self.state_dict, __author__='mmcrosscl', matching_heuristics=True)
        if self.to in ('torchvision', 'timm'):
            return self.state_dict
        return dict(state_dict=self.state_dict)

    def table(self) -> str:
        """What went where and what was left out and why, a line for each part of the model."""
        parts: dict[tuple[str, str], list[int]] = {}
        for name, origin in self.origin.items():
            count = parts.setdefault((_part(origin), _part(name)), [0, 0])
            count[0] += 1
            count[1] += self.state_dict[name].numel()
        rows = [(*part, str(n), f'{size:,}') for part, (n, size) in parts.items()]
        table = _columns([('from', 'to', 'tensors', 'numbers'), *rows])
        if not self.left_out:
            return table
        groups: dict[tuple[str, str], list[str]] = {}
        for name, why in self.left_out.items():
            groups.setdefault((why, re.split(r'[._\d]', name)[0]), []).append(name)
        rows = [(_in_common(names), why, str(len(names))) for (why, _), names in groups.items()]
        return f'{table}\n\n{_columns([("left out", "why", "tensors"), *rows])}'


def convert(checkpoint: Mapping, to: str, start_level: int = 0, raw: bool = False) -> Conversion:
    """Turn a checkpoint of any known project into another's; see :func:`identify` for which.

    Args:
        checkpoint (Mapping): What the file holds; see :func:`read_checkpoint`.
        to (str): 'crosscl', for further training, with the key encoder and the queue if the
            checkpoint has a whole CrossCL; 'mmdet', backbone and FPN; 'mmdet-backbone';
            'detectron2', backbone and FPN, for ``DetectionCheckpointer``; 'torchvision' or 'timm',
            a ResNet without its classifier.
        start_level (int): Of the MMDetection ``FPN`` that will load it: 0 where it takes C2 to C5
            as in Mask R-CNN, 1 where C3 to C5 as in RetinaNet and FCOS. Defaults to 0.
        raw (bool): Of an averaged checkpoint, the weights before averaging. Defaults to False.

    Returns:
        Conversion: Tensors are shared with the checkpoint.

    Raises:
        InputError: If the checkpoint is not known or not whole, or cannot become what is asked for.
    """
    if to not in TARGETS:
        raise InputError(f'unknown target {to!r}; choose one of {", ".join(TARGETS)}')
    if start_level and to != 'mmdet':
        raise InputError(f'--start-level is of an MMDetection FPN; leave it away for {to}')
    source = identify(checkpoint, raw)
    if not to.startswith(('crosscl', 'mmdet')) and 'backbone.conv1.weight' not in source.weights:
        raise InputError(f'the backbone is no ResNet, which {to} needs; convert it to mmdet')
    whole = 'key_encoder.steps' in source.weights
    state, origin, left_out = {}, {}, dict(source.left_out)
    for ours, value in source.weights.items():
        name = _target(ours, to, start_level, whole)
        # counters that we added have no origin
        theirs = source.origin.get(ours)
        if isinstance(name, LeaveOut):
            if theirs:
                left_out[theirs] = name
            continue
        state[name] = value
        if theirs:
            origin[name] = theirs
    return Conversion(source.kind, to, state, origin, left_out)


def _target(ours: str, to: str, start_level: int, whole: bool) -> str | LeaveOut:
    """The target's name for ours, or why it has none; ``whole``: a CrossCL with key encoder."""
    if to == 'crosscl':
        if ours.startswith(('key_encoder.', 'queue.')) and not whole:
            return LeaveOut("another method's, without a pyramid; training starts it anew")
        return ours
    if ours.startswith('key_encoder.'):
        return LeaveOut('the key encoder, the slow copy; detectors start from the query encoder')
    if ours.startswith('queue.'):
        return LeaveOut('the queue of negatives, of use to pre-training alone')
    if ours.startswith('neck.projection.'):
        return LeaveOut('the projection of the global vector, of use to pre-training alone')
    if to == 'detectron2':
        return to_detectron2(ours)
    if to == 'mmdet' and (match := re.fullmatch(rf'({PYRAMID})(\d)(.+)', ours)):
        head, place, rest = match.groups()
        if int(place) < start_level:
            return LeaveOut('finer than the FPN that starts at C3')
        return f'{head}{int(place) - start_level}{rest}'
    if to != 'mmdet' and not ours.startswith('backbone.'):
        return LeaveOut(f'the FPN, which {to} has no place for')
    return ours if to.startswith('mmdet') else ours.removeprefix('backbone.')


def _part(name: str) -> str:
    """The part of a model that a weight belongs to: a stage, or a layer outside of them."""
    part = re.match(r'.*?\b(?:layer|res)\d|.*?\b(?:lateral_convs|fpn_convs)\.\d', name)
    return part.group() if part else name.rpartition('.')[0] or name


def _in_common(names: list[str]) -> str:
    start = commonprefix(names)
    return start if len(names) == 1 else f'{start}*'


def _columns(rows: list[tuple[str, ...]]) -> str:
    """Lines of columns, the first two of words and the others of numbers."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join(
        '  '.join(
            f'{cell:<{width}}' if place < 2 else f'{cell:>{width}}'
            for place, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    )
