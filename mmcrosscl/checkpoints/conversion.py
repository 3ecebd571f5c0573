"""A converted checkpoint, and its description."""

import re
from dataclasses import dataclass
from os.path import commonprefix

from torch import Tensor

from .normalization import InputFormat

# files without a place for the input format
FLAT = ('torchvision', 'timm')


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
        input_format: Format of the images that the converted weights are for.
        notes: Sentences about weights that were adapted to another input format.
        warnings: Sentences about differences of the input formats that remain.
    """

    kind: str
    to: str
    state_dict: dict[str, Tensor]
    origin: dict[str, str]
    skipped: dict[str, str]
    input_format: InputFormat
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def contents(self) -> dict:
        """Return the contents of a checkpoint file in the target format."""
        input_format = self.input_format.to_dict()
        if self.to == 'detectron2':
            # with matching_heuristics, DetectionCheckpointer matches names by their suffix, so the
            # file loads into models with and without an FPN
            return dict(
                model=self.state_dict,
                __author__='mmcrosscl',
                matching_heuristics=True,
                input_format=input_format,
            )
        if self.to in FLAT:
            return self.state_dict
        return dict(state_dict=self.state_dict, meta=dict(input_format=input_format))

    def table(self) -> str:
        """Format the converted and the skipped weights as tables, one row per part of the model."""
        parts: dict[tuple[str, str], list[int]] = {}
        for name, origin in self.origin.items():
            count = parts.setdefault((_part(origin), _part(name)), [0, 0])
            count[0] += 1
            count[1] += self.state_dict[name].numel()
        rows: list[tuple[str, ...]] = [
            (*part, str(n), f'{size:,}') for part, (n, size) in parts.items()
        ]
        table = _columns([('from', 'to', 'tensors', 'elements'), *rows])
        if not self.skipped:
            return table
        groups: dict[tuple[str, str], list[str]] = {}
        for name, why in self.skipped.items():
            groups.setdefault((why, re.split(r'[._\d]', name)[0]), []).append(name)
        rows = [(_in_common(names), why, str(len(names))) for (why, _), names in groups.items()]
        return f'{table}\n\n{_columns([("skipped", "why", "tensors"), *rows])}'


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
