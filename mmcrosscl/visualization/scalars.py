"""Reader of the scalars that MMEngine's LocalVisBackend logs."""

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from mmcrosscl.errors import InputError

# bytes of a log that are parsed at once
CHUNK = 1 << 20
# scalars that are integers
COUNTERS = ('step', 'iter', 'epoch')


class TrainScalars(Sequence[dict]):
    """Scalars of the logged training iterations, sorted by step: a sequence of dicts.

    The values are stored in arrays, because a million dicts would need gigabytes.
    """

    def __init__(self) -> None:
        # The rows of a table have the same names in the same order.
        self._values: dict[tuple[str, ...], array] = {}
        self._numbers: dict[tuple[str, ...], array] = {}
        self._rows = 0
        self._tables: list[tuple[tuple[str, ...], np.ndarray]] = []
        # table and row of each step
        self._place = np.empty((0, 2), np.int64)
        self.steps = np.empty(0, np.int64)

    def append(self, scalars: dict) -> None:
        """Add the scalars of an iteration. They replace those of the same step."""
        names = tuple(scalars)
        if names not in self._values:
            self._values[names], self._numbers[names] = array('d'), array('q')
        values = self._values[names]
        before = len(values)
        try:
            values.extend(scalars.values())
        # values that are not numbers
        except (TypeError, OverflowError):
            del values[before:]
            numbers = {name: x for name, x in scalars.items() if _is_number(x)}
            if len(numbers) < len(scalars):
                self.append(numbers)
            return
        self._numbers[names].append(self._rows)
        self._rows += 1

    def sort(self) -> None:
        """Sort the iterations by step. Must be called after the last one is added."""
        self._tables = [
            (names, np.frombuffer(values).reshape(-1, len(names)))
            for names, values in self._values.items()
        ]
        places = [
            np.stack([
                values[:, names.index('step')].astype(np.int64),
                np.frombuffer(self._numbers[names], np.int64),
                np.full(len(values), table),
                np.arange(len(values)),
            ])
            for table, (names, values) in enumerate(self._tables)
        ]  # fmt: skip
        if not places:
            return
        steps, number, *place = np.concatenate(places, axis=1)
        order = np.lexsort((number, steps))
        # of the rows of one step, the last one counts
        last = np.append(np.diff(steps[order]) > 0, True)
        self.steps = steps[order][last]
        self._place = np.stack(place, axis=1)[order][last]

    @property
    def names(self) -> list[str]:
        """Names of all scalars, in the order of the log."""
        # a later log may have replaced all rows of a table
        kept = set(self._place[:, 0].tolist())
        tables = [names for table, (names, _) in enumerate(self._tables) if table in kept]
        return list(dict.fromkeys(name for names in tables for name in names))

    def column(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the steps at which a scalar is logged, and its values, which may be NaN or Inf."""
        values = np.empty(len(self))
        logged = np.zeros(len(self), bool)
        for table, (names, rows) in enumerate(self._tables):
            if name in names:
                here = self._place[:, 0] == table
                values[here] = rows[self._place[here, 1], names.index(name)]
                logged |= here
        return self.steps[logged], values[logged]

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, index: int) -> dict: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict]: ...

    def __getitem__(self, index: int | slice) -> dict | list[dict]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        table, row = self._place[index]
        names, values = self._tables[table]
        return {
            name: int(x) if name in COUNTERS and x.is_integer() else x
            for name, x in zip(names, values[row].tolist())
        }


@dataclass(frozen=True)
class Scalars:
    """Logged scalars of a run, in the order of training.

    Attributes:
        train (TrainScalars): One dict per logged training iteration. ``step`` is the iteration,
            counted from 1.
        evaluation (list[dict]): One dict per evaluation. ``step`` is the epoch, or the iteration
            if ``LoggerHook`` has ``log_metric_by_epoch=False``. ``iter`` is the last training
            iteration before the evaluation in the same log file, or 0 if the file has none.
        foreign (int): Number of JSON lines without a step, which MMEngine did not write.
    """

    train: TrainScalars
    evaluation: list[dict]
    foreign: int = 0


def read_scalars(work_dir: str | Path) -> Scalars:
    """Read the logged scalars of a run, which may still be training.

    If a resumed run repeats steps, their scalars are those of the later log. Incomplete lines are
    skipped. NaN and Inf are kept.

    Args:
        work_dir (str | Path): Work dir of the run.

    Returns:
        Scalars: Scalars of training and of evaluation, each sorted by step.

    Raises:
        InputError: If ``work_dir`` has no log.
    """
    train, evaluation, foreign = TrainScalars(), {}, 0
    # folder names are timestamps, so later logs come last
    for log in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        iteration = 0
        for scalars in _lines(log):
            step = scalars.get('step') if isinstance(scalars, dict) else None
            if not isinstance(step, int):
                foreign += 1
            # LoggerHook writes `iter` for training iterations only
            elif 'iter' in scalars:
                iteration = step
                train.append(scalars)
            else:
                # By default, LoggerHook logs every evaluation of an iteration-based loop as step 0,
                # so the iteration distinguishes the evaluations.
                key = step, 0 if step else iteration
                evaluation[key] = {**scalars, 'iter': iteration}
    train.sort()
    if not train and not evaluation:
        reason = (
            f'has a log of another framework: none of its {foreign} JSON lines has a step'
            if foreign
            else 'does not contain a training log'
        )
        raise InputError(f'{work_dir} {reason}; pass the work_dir of a run')
    return Scalars(train, [evaluation[key] for key in sorted(evaluation)], foreign)


def _lines(log: Path) -> Iterator[Any]:
    with log.open('rb') as file:
        while lines := file.readlines(CHUNK):
            try:
                values = json.loads(b'[%s]' % b','.join(lines))
            except ValueError:
                values = None
            # The JSON lines of a chunk are parsed at once, unless one of them is incomplete.
            yield from values if values and len(values) == len(lines) else _each(lines)


def _each(lines: list[bytes]) -> Iterator[Any]:
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:  # incomplete: being written, or the run was killed
            continue


def _is_number(value: object) -> bool:
    return isinstance(value, float) or isinstance(value, int) and abs(value) < 2**63
