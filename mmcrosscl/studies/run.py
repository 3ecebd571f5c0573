"""A study from its settings to its results."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.errors import InputError

from .estimate import expected_seconds, format_hours, remaining_seconds, write_estimate
from .job_runner import StudyRunner
from .jobs import read_results
from .locks import locked
from .publish import RESULTS, Results, markdown, publish
from .study import STUDY, create_study, read_study, write_study


def run_study(work_dir: str | Path, settings: Mapping[str, Any] | None = None) -> str:
    """Run a study, or the rest of it, and write its results.

    Several processes, also on several machines with the same file system, can run one study.

    Args:
        work_dir (str | Path): Folder of the study.
        settings (Mapping, optional): Arguments of :func:`create_study`. Defaults to None (those of
            the study in the folder).

    Returns:
        str: The tables of the results, and the paths of the files.

    Raises:
        InputError: If the settings are invalid; nothing is written then. Or if a config or a
            checkpoint has changed since another job read it.
        RunError: If a job fails. The other jobs run, except those that need its result.
        Preempted: After SIGTERM or SIGUSR1, once the jobs have saved their checkpoints.
    """
    work_dir = Path(work_dir)
    created = None if settings is None else create_study(**settings)
    if created is None and not (work_dir / STUDY).is_file():
        raise InputError(
            f'{work_dir} contains no study; pass --detector, --unlabeled, --train, --test, --arms '
            'and --labels'
        )
    with locked(work_dir):
        if created is not None:
            write_study(*created, work_dir)
        study = read_study(work_dir)
        write_estimate(work_dir, study)
    left = remaining_seconds(work_dir, study)
    runner = StudyRunner(work_dir, partial(_write_results, work_dir))
    if left:
        devices = len(runner.devices)
        whole = format_hours(expected_seconds(work_dir, study) / devices)
        print(
            f'{len(list(study.plan.jobs()))} jobs on {devices} '
            f'{"device" if devices == 1 else "devices"}: about {format_hours(left / devices)} '
            f'left, of {whole} in all. Results are written to {work_dir}. To resume after an '
            f'interruption: mmcrosscl study --work-dir {shlex.quote(str(work_dir))}',
            flush=True,
        )
    try:
        runner.run()
    finally:
        text = _write_results(work_dir)
    return text


def _write_results(work_dir: Path) -> str:
    with locked(work_dir):
        study = read_study(work_dir)
        done = read_results(work_dir, study)
        expected = expected_seconds(work_dir, study)
        contents = dict(study=asdict(study), expected=expected, jobs=list(done.values()))
        path = work_dir / RESULTS
        atomic_write(path, lambda path: path.write_text(json.dumps(contents, indent=1)))
        results = Results(contents)
        table, plot, page = publish(results, work_dir)
    return (
        f'{markdown(results)}\n'
        f'The jobs took {format_hours(results.took)}; {format_hours(expected)} were expected.\n'
        f'  results  {path}\n  table    {table}\n  plot     {plot}\n  page     {page}'
    )
