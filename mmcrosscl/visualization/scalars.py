"""Scalars that a run logged, read from the files of MMEngine's LocalVisBackend."""

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
            iteration that the same log has before the evaluation, 0 if it has none.
    """

    train: list[dict]
    evaluation: list[dict]


def read_scalars(work_dir: str | Path) -> Scalars:
    """Read the scalars of all training and evaluation steps of a run, finished or not.

    After a resume, the later log replaces the steps that it repeats. Lines that are cut off are
    ignored. NaN and Inf are values like others.

    Args:
        work_dir (str | Path): The run's ``work_dir``.

    Returns:
        Scalars: Training and evaluation, each in order.

    Raises:
        InputError: If nothing was logged there.
    """
    train, evaluation = {}, {}
    # the folders are named by time
    for log in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        iteration = 0
        for scalars in _lines(log):
            step = scalars['step']
            # LoggerHook writes `iter` for training alone
            if 'iter' in scalars:
                iteration = step
                train[step] = scalars
            else:
                # a loop that counts iterations logs all evaluations as step 0 by default
                key = step, 0 if step else iteration
                evaluation[key] = {**scalars, 'iter': iteration}
    if not train and not evaluation:
        raise InputError(f'{work_dir} has no training log; name the work_dir of a run')
    return Scalars(
        [train[step] for step in sorted(train)], [evaluation[key] for key in sorted(evaluation)]
    )


def _lines(log: Path) -> Iterator[dict]:
    with log.open(errors='replace') as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # being written, or cut off when the run was killed
                continue
