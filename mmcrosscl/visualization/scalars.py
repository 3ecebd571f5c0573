"""Reader of the scalars that MMEngine's LocalVisBackend logs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmcrosscl.errors import InputError


@dataclass(frozen=True)
class Scalars:
    """Logged scalars of a run, in the order of training.

    Attributes:
        train (list[dict]): One dict per logged training iteration. ``step`` is the iteration,
            counted from 1.
        evaluation (list[dict]): One dict per evaluation. ``step`` is the epoch, or the iteration
            if ``LoggerHook`` has ``log_metric_by_epoch=False``. ``iter`` is the last training
            iteration before the evaluation in the same log file, or 0 if the file has none.
    """

    train: list[dict]
    evaluation: list[dict]


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
    train, evaluation = {}, {}
    # folder names are timestamps, so later logs come last
    for log in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        iteration = 0
        for scalars in _lines(log):
            step = scalars['step']
            # LoggerHook writes `iter` for training iterations only
            if 'iter' in scalars:
                iteration = step
                train[step] = scalars
            else:
                # By default, LoggerHook logs every evaluation of an iteration-based loop as step 0,
                # so the iteration distinguishes the evaluations.
                key = step, 0 if step else iteration
                evaluation[key] = {**scalars, 'iter': iteration}
    if not train and not evaluation:
        raise InputError(f'{work_dir} does not contain a training log; pass the work_dir of a run')
    return Scalars(
        [train[step] for step in sorted(train)], [evaluation[key] for key in sorted(evaluation)]
    )


def _lines(log: Path) -> Iterator[dict]:
    with log.open(errors='replace') as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # incomplete: being written, or the run was killed
                continue
