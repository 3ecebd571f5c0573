import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from mmcrosscl.studies import read_results_file
from tests.slurm import slurm, slurm_cluster, wait_until
from tests.studies.data import write_data

pytestmark = [pytest.mark.slurm, pytest.mark.soak]


def worker(task: int) -> int | None:
    """Return the process id of the study in a task of the array."""
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            words = (folder / 'cmdline').read_bytes().split(b'\0')
            environment = (folder / 'environ').read_bytes().split(b'\0')
        except OSError:
            continue
        if words[3:4] == [b'study'] and f'SLURM_ARRAY_TASK_ID={task}'.encode() in environment:
            return int(folder.name)


def test_an_array_runs_a_study_and_a_killed_task_loses_nothing(tmp_path):
    # three jobs in a row, so that one task works and the other one waits
    settings = {**write_data(tmp_path), 'arms': ['crosscl'], 'seeds': 1}
    out = tmp_path / 'out'
    words = [sys.executable, '-m', 'mmcrosscl', 'study', '--work-dir', out]
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        words += [f'--{name.replace("_", "-")}', *values]
    logs = {task: tmp_path / f'{task}.log' for task in (1, 2)}

    def working() -> list[int]:
        return [task for task, log in logs.items() if log.exists() and 'job ' in log.read_text()]

    with slurm_cluster(tmp_path / 'slurm'):
        slurm('sbatch', '--array=1-2', '--output', f'{tmp_path}/%a.log', '--chdir', os.getcwd(),
              '--wrap', shlex.join(map(str, words)))  # fmt: skip
        wait_until(working, 300)
        (first,) = working()
        # only the worker is killed, not the command of its job, which goes on to write its files
        os.kill(worker(first), signal.SIGKILL)
        wait_until(lambda: not slurm('squeue', '-h'), 600)
    said = {task: log.read_text() for task, log in logs.items()}
    other = said[3 - first]
    assert 'The study is not finished' not in other and ' were expected.' in other, other
    results = read_results_file(out / 'results.json')
    assert [job['kind'] for job in results.jobs] == ['pretrain', 'search', 'final']
    # the job of the killed task was not started again before its command had ended
    assert said[first].count('job ') == 1 and other.count('job ') == 3
    pretraining = (out / 'jobs/pretrain-crosscl-seed0/output.log').read_text()
    assert pretraining.count('Saved ') == 1
