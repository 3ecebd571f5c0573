import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from mmcrosscl.studies import read_results_file
from tests.slurm import slurm, slurm_cluster, wait_until
from tests.studies.data import write_data

pytestmark = [pytest.mark.slurm, pytest.mark.slow(120)]


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
    settings = {**write_data(tmp_path), 'arms': ['crosscl']}
    out = tmp_path / 'out'
    words = [sys.executable, '-m', 'mmcrosscl', 'study', '--work-dir', out]
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        words += [f'--{name.replace("_", "-")}', *values]
    with slurm_cluster(tmp_path / 'slurm'):
        slurm('sbatch', '--array=1-2', '--output', f'{tmp_path}/%a.log', '--chdir', os.getcwd(),
              '--wrap', shlex.join(map(str, words)))  # fmt: skip
        logs = [tmp_path / '1.log', tmp_path / '2.log']
        wait_until(lambda: all(log.exists() and 'job ' in log.read_text() for log in logs), 120)
        # only the worker is killed, not the command of its job, which goes on to write its files
        os.kill(worker(1), signal.SIGKILL)
        wait_until(lambda: not slurm('squeue', '-h'), 600)
    said = [log.read_text() for log in logs]
    assert 'The study is not finished' not in said[1] and ' were expected.' in said[1], said[1]
    results = read_results_file(out / 'results.json')
    assert sorted(j['seed'] for j in results.jobs if j['kind'] == 'final') == [0, 1]
    # no job had two workers at once, and only that of the killed task was started again
    started = [text.count('job ') for text in said]
    assert all(started) and sum(started) - len(results.jobs) in (0, 1)
