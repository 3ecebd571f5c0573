"""Conversion of checkpoints between the formats of projects."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path

from torch import Tensor

from mmcrosscl.errors import InputError

from .formats import PYRAMID, Skipped, to_detectron2
from .identify import identify
from .reading import read_checkpoint
from .writing import write_checkpoint

TARGETS = ('crosscl', 'mmdet', 'mmdet-backbone', 'detectron2', 'torchvision', 'timm')


@dataclass(frozen=True)
class Conversion:
    """A converted checkpoint.

    Attributes:
        kind: The project that wrote the checkpoint, in words.
        to: Target format.
        state_dict: Name in the target format to tensor.
        origin: Name in the target format to name in the checkpoint.
        skipped: Name in the checkpoint to the reason for which it is not in ``state_dict``.
    """

    kind: str
    to: str
    state_dict: dict[str, Tensor]
    origin: dict[str, str]
    skipped: dict[str, str]

    def contents(self) -> dict:
        """Return the contents of a checkpoint file in the target format."""
        if self.to == 'detectron2':
            # its checkpointer then matches the ends of names, with and without an FPN
            return dict(model=self.state_dict, __author__='mmcrosscl', matching_heuristics=True)
        if self.to in ('torchvision', 'timm'):
            return self.state_dict
        return dict(state_dict=self.state_dict)

    def table(self) -> str:
        """Format converted and skipped weights as a table, one line per part of the model."""
        parts: dict[tuple[str, str], list[int]] = {}
        for name, origin in self.origin.items():
            count = parts.setdefault((_part(origin), _part(name)), [0, 0])
            count[0] += 1
            count[1] += self.state_dict[name].numel()
        rows = [(*part, str(n), f'{size:,}') for part, (n, size) in parts.items()]
        table = _columns([('from', 'to', 'tensors', 'numbers'), *rows])
        if not self.skipped:
            return table
        groups: dict[tuple[str, str], list[str]] = {}
        for name, why in self.skipped.items():
            groups.setdefault((why, re.split(r'[._\d]', name)[0]), []).append(name)
        rows = [(_in_common(names), why, str(len(names))) for (why, _), names in groups.items()]
        return f'{table}\n\n{_columns([("skipped", "why", "tensors"), *rows])}'


def convert(checkpoint: Mapping, to: str, start_level: int = 0, raw: bool = False) -> Conversion:
    """Convert a checkpoint of any project that :func:`identify` knows.

    Args:
        checkpoint (Mapping): Contents of the file; see :func:`read_checkpoint`.
        to (str): Target format. 'crosscl': for further pre-training, with the key encoder and the
            queue if the checkpoint has a complete CrossCL. 'mmdet': backbone and FPN.
            'mmdet-backbone': the backbone. 'detectron2': backbone and FPN, for
            ``DetectionCheckpointer``. 'torchvision', 'timm': a ResNet without its classifier.
        start_level (int): ``start_level`` of the MMDetection ``FPN`` that will load the result: 0
            for C2 to C5, as in Mask R-CNN; 1 for C3 to C5, as in RetinaNet and FCOS. Defaults to 0.
        raw (bool): Take the weights before averaging from an averaged checkpoint. Defaults to
            False.

    Returns:
        Conversion: Tensors are shared with the checkpoint.

    Raises:
        InputError: If the checkpoint is unknown or incomplete, or the target cannot represent it.
    """
    if to not in TARGETS:
        raise InputError(f'unknown target {to!r}; choose one of {", ".join(TARGETS)}')
    if start_level and to != 'mmdet':
        raise InputError(f'--start-level is for the FPN of mmdet; omit it for {to}')
    source = identify(checkpoint, raw)
    if not to.startswith(('crosscl', 'mmdet')) and 'backbone.conv1.weight' not in source.weights:
        raise InputError(f'the backbone is not a ResNet, which {to} needs; convert it to mmdet')
    complete = 'key_encoder.steps' in source.weights
    state, origin, skipped = {}, {}, dict(source.skipped)
    for name, value in source.weights.items():
        target = _target(name, to, start_level, complete)
        # counters that the checkpoint lacks have no origin
        original = source.origin.get(name)
        if isinstance(target, Skipped):
            if original:
                skipped[original] = target
            continue
        state[target] = value
        if original:
            origin[target] = original
    return Conversion(source.kind, to, state, origin, skipped)


def convert_file(
    src: str | Path,
    dst: str | Path,
    to: str,
    start_level: int = 0,
    raw: bool = False,
    replace: bool = False,
    trust: bool = False,
) -> str:
    """Convert a checkpoint file; see :func:`convert` for ``to``, ``start_level`` and ``raw``.

    Args:
        src (str | Path): File to read.
        dst (str | Path): File to write, atomically; in safetensors' format if so named.
        to (str): Target format.
        start_level (int): Defaults to 0.
        raw (bool): Defaults to False.
        replace (bool): Replace ``dst`` if it exists. Defaults to False.
        trust (bool): Unpickle everything in ``src``, programs included. Defaults to False.

    Returns:
        str: A text with the detected format, the table of weights, and what the target needs.

    Raises:
        InputError: If ``dst`` exists or cannot be written, or ``src`` cannot be read or converted.
    """
    dst = Path(dst)
    if dst.exists() and not replace:
        raise InputError(f'{dst} exists; give --force to replace it')
    conversion = convert(read_checkpoint(src, trust), to, start_level, raw)
    flat = dst.suffix == '.safetensors'
    write_checkpoint(conversion.state_dict if flat else conversion.contents(), dst)
    lines = [f'{src}: {conversion.kind}', '', conversion.table(), '', f'wrote {dst}']
    if to == 'detectron2':
        lines.append(
            'Its config needs MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], MODEL.PIXEL_STD '
            '[58.395, 57.12, 57.375], INPUT.FORMAT "RGB" and MODEL.RESNETS.STRIDE_IN_1X1 False.'
        )
    return '\n'.join(lines)


def _target(name: str, to: str, start_level: int, complete: bool) -> str | Skipped:
    """Return a CrossCL name in the target format, or the reason to skip the weight.

    ``complete``: the checkpoint has the key encoder of a CrossCL.
    """
    if to == 'crosscl':
        if name.startswith(('key_encoder.', 'queue.')) and not complete:
            return Skipped('of another method, without a pyramid; training initializes it')
        return name
    if name.startswith('key_encoder.'):
        return Skipped('the key encoder, a moving average; detectors start from the query encoder')
    if name.startswith('queue.'):
        return Skipped('the queue of negatives, used in pre-training alone')
    if name.startswith('neck.projection.'):
        return Skipped('the projection of the global vector, used in pre-training alone')
    if to == 'detectron2':
        return to_detectron2(name)
    if to == 'mmdet' and (match := re.fullmatch(rf'({PYRAMID})(\d)(.+)', name)):
        head, place, rest = match.groups()
        if int(place) < start_level:
            return Skipped('finer than the FPN that starts at C3')
        return f'{head}{int(place) - start_level}{rest}'
    if to != 'mmdet' and not name.startswith('backbone.'):
        return Skipped(f'the FPN, which {to} does not have')
    return name if to.startswith('mmdet') else name.removeprefix('backbone.')


def _part(name: str) -> str:
    """Return the part of a model that a weight belongs to: a stage, or a layer outside of them."""
    part = re.match(r'.*?\b(?:layer|res)\d|.*?\b(?:lateral_convs|fpn_convs)\.\d', name)
    return part.group() if part else name.rpartition('.')[0] or name


def _in_common(names: list[str]) -> str:
    start = commonprefix(names)
    return start if len(names) == 1 else f'{start}*'


def _columns(rows: list[tuple[str, ...]]) -> str:
    """Align columns: the first two to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join(
        '  '.join(
            f'{cell:<{width}}' if place < 2 else f'{cell:>{width}}'
            for place, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    )
