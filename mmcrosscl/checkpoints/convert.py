"""Conversion of checkpoints between the formats of different projects."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path

from torch import Tensor

from mmcrosscl.errors import InputError
from mmcrosscl.progress import progress_bar

from .formats import PYRAMID, Skipped, to_detectron2
from .identify import identify
from .reading import read_checkpoint
from .writing import write_checkpoint

TARGETS = ('crosscl', 'mmdet', 'mmdet-backbone', 'detectron2', 'torchvision', 'timm')


@dataclass(frozen=True)
class Conversion:
    """A converted checkpoint.

    Attributes:
        kind: Human-readable name of the project that wrote the checkpoint.
        to: Target format.
        state_dict: Maps each name in the target format to its tensor.
        origin: Maps each name in the target format to the name in the checkpoint. Counters that
            the checkpoint lacks are not included.
        skipped: Maps each skipped name in the checkpoint to the reason.
    """

    kind: str
    to: str
    state_dict: dict[str, Tensor]
    origin: dict[str, str]
    skipped: dict[str, str]

    def contents(self) -> dict:
        """Return the contents of a checkpoint file in the target format."""
        if self.to == 'detectron2':
            # with matching_heuristics, DetectionCheckpointer matches names by their suffix, so the
            # file loads into models with and without an FPN
            return dict(model=self.state_dict, __author__='mmcrosscl', matching_heuristics=True)
        if self.to in ('torchvision', 'timm'):
            return self.state_dict
        return dict(state_dict=self.state_dict)

    def table(self) -> str:
        """Format the converted and the skipped weights as tables, one row per part of the model."""
        parts: dict[tuple[str, str], list[int]] = {}
        for name, origin in self.origin.items():
            count = parts.setdefault((_part(origin), _part(name)), [0, 0])
            count[0] += 1
            count[1] += self.state_dict[name].numel()
        rows = [(*part, str(n), f'{size:,}') for part, (n, size) in parts.items()]
        table = _columns([('from', 'to', 'tensors', 'elements'), *rows])
        if not self.skipped:
            return table
        groups: dict[tuple[str, str], list[str]] = {}
        for name, why in self.skipped.items():
            groups.setdefault((why, re.split(r'[._\d]', name)[0]), []).append(name)
        rows = [(_in_common(names), why, str(len(names))) for (why, _), names in groups.items()]
        return f'{table}\n\n{_columns([("skipped", "why", "tensors"), *rows])}'


def convert(checkpoint: Mapping, to: str, start_level: int = 0, raw: bool = False) -> Conversion:
    """Convert a checkpoint of any project that :func:`identify` supports.

    Args:
        checkpoint (Mapping): Contents of the file; see :func:`read_checkpoint`.
        to (str): Target format:

            - 'crosscl': for further pre-training. The key encoder and the queue are included if
              the checkpoint contains a complete CrossCL.
            - 'mmdet': backbone and FPN.
            - 'mmdet-backbone': backbone only.
            - 'detectron2': backbone and FPN, for ``DetectionCheckpointer``.
            - 'torchvision', 'timm': ResNet without its classifier.
        start_level (int): ``start_level`` of the MMDetection ``FPN`` that loads the result. Use 0
            for C2 to C5, as in Mask R-CNN, and 1 for C3 to C5, as in RetinaNet and FCOS. Defaults
            to 0.
        raw (bool): Convert the weights before averaging instead of the averaged weights. Requires
            an averaged checkpoint. Defaults to False.

    Returns:
        Conversion: The converted checkpoint. See :class:`Source` for the tensors that it shares
        with ``checkpoint``.

    Raises:
        InputError: If the checkpoint is unknown or incomplete, the target is unknown or cannot
            represent the checkpoint, or ``start_level`` or ``raw`` does not apply.
    """
    if to not in TARGETS:
        raise InputError(f'unknown target {to!r}; choose one of {", ".join(TARGETS)}')
    if start_level and to != 'mmdet':
        raise InputError(f'--start-level applies only to the target mmdet; omit it for {to}')
    source = identify(checkpoint, raw)
    if not to.startswith(('crosscl', 'mmdet')) and 'backbone.conv1.weight' not in source.weights:
        raise InputError(f'the backbone is not a ResNet, which {to} requires; convert it to mmdet')
    complete = 'key_encoder.steps' in source.weights
    state, origin, skipped = {}, {}, dict(source.skipped)
    for name, value in source.weights.items():
        target = _target(name, to, start_level, complete)
        # counters that the checkpoint lacks have no original name
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
        dst (str | Path): File to write atomically. A name that ends in .safetensors selects the
            safetensors format.
        to (str): Target format.
        start_level (int): Defaults to 0.
        raw (bool): Defaults to False.
        replace (bool): Replace ``dst`` if it exists. Defaults to False.
        trust (bool): Unpickle all objects in ``src``, which runs any code in the file. Defaults to
            False.

    Returns:
        str: A human-readable report with the detected format, the table of weights, and the
        settings that the target requires.

    Raises:
        InputError: If ``dst`` exists or cannot be written, or ``src`` cannot be read or converted.
    """
    dst = Path(dst)
    if dst.exists() and not replace:
        raise InputError(f'{dst} exists; pass --force to replace it')
    with progress_bar(f'Reading {src}', total=3, unit='steps') as bar:
        checkpoint = read_checkpoint(src, trust)
        bar.update(1, 'Converting')
        conversion = convert(checkpoint, to, start_level, raw)
        bar.update(2, f'Writing {dst}')
        flat = dst.suffix == '.safetensors'
        write_checkpoint(conversion.state_dict if flat else conversion.contents(), dst)
    lines = [f'{src}: {conversion.kind}', '', conversion.table(), '', f'wrote {dst}']
    if to == 'detectron2':
        lines.append(
            'Set these values in the Detectron2 config: MODEL.PIXEL_MEAN [123.675, 116.28, '
            '103.53], MODEL.PIXEL_STD [58.395, 57.12, 57.375], INPUT.FORMAT "RGB" and '
            'MODEL.RESNETS.STRIDE_IN_1X1 False.'
        )
    return '\n'.join(lines)


def _target(name: str, to: str, start_level: int, complete: bool) -> str | Skipped:
    """Return the name of a CrossCL weight in the target format, or the reason to skip the weight.

    ``complete`` is True if the checkpoint contains the key encoder of a CrossCL.
    """
    if to == 'crosscl':
        if name.startswith(('key_encoder.', 'queue.')) and not complete:
            return Skipped('part of another method; CrossCL initializes this weight itself')
        return name
    if name.startswith('key_encoder.'):
        return Skipped('part of the key encoder; detectors start from the query encoder')
    if name.startswith('queue.'):
        return Skipped('part of the queue of negatives, used only in pre-training')
    if name.startswith('neck.projection.'):
        return Skipped('part of the projection of the global vector, used only in pre-training')
    if to == 'detectron2':
        return to_detectron2(name)
    if to == 'mmdet' and (match := re.fullmatch(rf'({PYRAMID})(\d)(.+)', name)):
        head, level, rest = match.groups()
        if int(level) < start_level:
            return Skipped('a level finer than C3, where the FPN starts')
        return f'{head}{int(level) - start_level}{rest}'
    if to != 'mmdet' and not name.startswith('backbone.'):
        return Skipped(f'part of the FPN, which {to} does not include')
    return name if to.startswith('mmdet') else name.removeprefix('backbone.')


def _part(name: str) -> str:
    """Return the stage that a weight belongs to, or its layer if it does not belong to a stage."""
    part = re.match(r'.*?\b(?:layer|res)\d|.*?\b(?:lateral_convs|fpn_convs)\.\d', name)
    return part.group() if part else name.rpartition('.')[0] or name


def _in_common(names: list[str]) -> str:
    start = commonprefix(names)
    return start if len(names) == 1 else f'{start}*'


def _columns(rows: list[tuple[str, ...]]) -> str:
    """Format rows as text, with the first two columns left-aligned and the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join(
        '  '.join(
            f'{cell:<{width}}' if column < 2 else f'{cell:>{width}}'
            for column, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    )
