"""tools/slurm_train.sh, with real Slurm, and with a script in place of srun for its arguments."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmcrosscl.errors import EXIT_PREEMPTED
from tests.engine.runs import assert_same_state
from tests.slurm import slurm, slurm_cluster, wait_until
from tests.tools.processes import ranks, wait_for
from tests.training import tiny_options

CONFIG = 'configs/crosscl/r50_8xb32_folder.py'
# 16 images are 2 iterations of 2 processes
SHORT = ['train_cfg.max_epochs=50', 'param_scheduler.0.T_max=50', 'randomness.seed=1']


def test_slurm_starts_a_task_per_gpu(tmp_path, monkeypatch):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.setenv('GPUS', '16')
    monkeypatch.setenv('SRUN_ARGS', '--time=1:00 --mem=0')
    command = ['tools/slurm_train.sh', 'gpu', 'job', CONFIG, 'work dir', '--resume']
    done = subprocess.run(command, capture_output=True, text=True)
    words = done.stdout.splitlines()
    assert words[:7] == [
        '--partition=gpu', '--job-name=job', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8',
        '--cpus-per-task=8', '--kill-on-bad-exit=1',
    ]  # fmt: skip
    assert words[7:10] == ['--signal=USR1@120', '--time=1:00', '--mem=0']
    assert words[10:12] == ['bash', '-c']
    assert words[-10:] == [
        '-u', '-m', 'mmcrosscl', 'train', CONFIG, '--work-dir', 'work dir', '--launcher', 'slurm',
        '--resume',
    ]  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs the script, whose calls of srun end with the given statuses."""
    (tmp_path / 'srun').write_text(
        f'#!/bin/sh\necho "$@ restarts=$MMCROSSCL_RESTARTS" >> {tmp_path}/calls\n'
        f'set -- $STATUSES\nshift $(($(grep -c restarts= {tmp_path}/calls) - 1))\nexit $1\n'
    )
    (tmp_path / 'scontrol').write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol_calls\n')
    for name in ('srun', 'scontrol'):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.delenv('SLURM_JOB_ID', raising=False)

    def run(*statuses):
        monkeypatch.setenv('STATUSES', ' '.join(map(str, statuses)))
        (tmp_path / 'calls').unlink(missing_ok=True)
        command = ['tools/slurm_train.sh', 'gpu', 'job', CONFIG, 'work', '--amp']
        status = subprocess.run(command).returncode
        # the script within a call has several lines
        calls = re.findall(r'--partition.*?restarts=\d', (tmp_path / 'calls').read_text(), re.S)
        return status, calls

    return run


@pytest.mark.parametrize('status', [75, 138, 143])
def test_a_preempted_job_is_requeued(run, tmp_path, monkeypatch, status):
    """The first srun exits with the status of a preempted job, the second with status 0."""
    done, (first, second) = run(status, 0)
    assert done == 0 and '--signal=USR1@120' in first
    assert first.endswith('--launcher slurm --amp restarts=0')
    assert second == first.replace('restarts=0', 'restarts=1')

    monkeypatch.setenv('SLURM_JOB_ID', '4711')
    done, calls = run(status, 0)
    assert done == EXIT_PREEMPTED and len(calls) == 1
    assert (tmp_path / 'scontrol_calls').read_text() == 'requeue 4711\n'


@pytest.mark.parametrize(
    'statuses, status, calls',
    [((201, 0), 0, 2), ((201,) * 4, 201, 4), ((202,), 1, 1), ((203,), 65, 1), ((1,), 1, 1)],
)
def test_a_failed_job_starts_again_unless_the_input_is_wrong(run, statuses, status, calls):
    done, started = run(*statuses)
    assert done == status and len(started) == calls


@pytest.fixture
def environment(monkeypatch):
    """Set the variables of slurm_train.sh for two nodes with one task each, without GPUs."""
    variables = dict(
        GRES='', GPUS='2', GPUS_PER_NODE='1', CPUS_PER_TASK='1', OMP_NUM_THREADS='1',
        PYTHON=sys.executable,
        # both nodes of the cluster are this machine
        MASTER_ADDR='127.0.0.1',
    )  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def config(tmp_path):
    """Return a config of 100 iterations of 2 processes, a second each."""
    path = tmp_path / 'slow.py'
    path.write_text(
        f"""_base_ = '{Path(CONFIG).resolve()}'
custom_imports = dict(imports=['tests.engine.runs'])
custom_hooks = [dict(type='Slow', seconds=1)]
"""
    )
    return path


@pytest.mark.slurm
@pytest.mark.soak
def test_a_job_on_two_nodes_loses_nothing(tmp_path, photos, environment, config, launch):
    """Its time limit is near, one task is killed, and the job is preempted twice."""
    words = ['tools/slurm_train.sh', 'cpu', 'job', config, tmp_path / 'work', '--cfg-options']
    words += [*tiny_options(photos), *SHORT]
    with slurm_cluster(tmp_path / 'slurm'):
        # Slurm sends the signal after 30 to 90 seconds, and later attempts have more time
        job = slurm(
            'sbatch', '--parsable', '--requeue', '--nodes=2', '--ntasks=2', '--cpus-per-task=1',
            '--time=2', '--signal=USR1@30', '--open-mode=append', '--output', tmp_path / 'out',
            '--chdir', os.getcwd(), '--wrap', shlex.join(map(str, words)),
        ).strip()  # fmt: skip

        def start_again(times: int) -> None:
            wait_until(lambda: f'Restarts={times}' in slurm('scontrol', 'show', 'job', job), 150)
            # Slurm would wait for two minutes. The nodes reject a job that starts in the second in
            # which its last attempt ended.
            time.sleep(3)
            slurm('scontrol', 'update', f'JobId={job}', 'StartTime=now', 'TimeLimit=30')

        start_again(1)
        position = wait_for(tmp_path, 'start +resumes after iteration', 180)
        os.kill(ranks(tmp_path)[1], signal.SIGKILL)
        position = wait_for(tmp_path, 'restart 1 of 3', 180, position)
        position = wait_for(tmp_path, 'start +resumes after iteration', 180, position)
        for times, name in ((2, 'USR1'), (3, 'TERM')):
            position = wait_for(tmp_path, r'iteration \d+/', 60, position)
            slurm('scancel', f'--signal={name}', job)
            position = wait_for(tmp_path, 'Preempted: saved', 120, position)
            start_again(times)
            position = wait_for(tmp_path, 'start +resumes after iteration', 180, position)
        wait_until(lambda: not slurm('squeue', '-h'), 300)
    text = (tmp_path / 'out').read_text()
    assert text.count('Preempted: saved') == 3 and 'cannot be requeued' not in text
    alone = launch('tools/dist_train.sh', CONFIG, 2, options=SHORT, work_dir=tmp_path / 'alone')
    assert alone.wait(180) == 0
    assert_same_state(tmp_path / 'work/epoch_50.pth', tmp_path / 'alone/epoch_50.pth')


@pytest.mark.slurm
@pytest.mark.soak
def test_two_jobs_share_the_nodes_and_a_preempted_one_starts_again(tmp_path, environment, launch):
    with slurm_cluster(tmp_path / 'slurm'):
        first, _ = [
            launch(
                *('tools/slurm_train.sh', 'cpu', name, CONFIG, tmp_path / 'work'),
                out=name, work_dir=tmp_path / f'{name}_work',
            )
            for name in ('one', 'two')
        ]  # fmt: skip
        for out in ('one', 'two'):
            wait_for(tmp_path, 'epoch 2/', 180, out=out)
        job = slurm('squeue', '-h', '-o', '%i', '--name=one').strip()
        slurm('scancel', '--signal=USR1', job)
        wait_for(tmp_path, 'start +resumes after iteration', 180, out='one')
        # Ctrl-C twice ends the script and its job
        for _ in range(2):
            os.killpg(first.pid, signal.SIGINT)
            time.sleep(0.3)
        assert first.wait(60) == 130


@pytest.mark.slurm
@pytest.mark.slow(30)
def test_an_input_error_is_not_retried(tmp_path, environment, launch):
    """Slurm terminates one task because of the error of the other one."""
    with slurm_cluster(tmp_path / 'slurm'):
        words = ['tools/slurm_train.sh', 'cpu', 'job', CONFIG, tmp_path / 'work']
        gone = [f'train_dataloader.dataset.data_root={tmp_path}/gone']
        assert launch(*words, options=gone).wait(180) == 1
    text = (tmp_path / 'out').read_text()
    assert 'ended with status 1\n' in text and 'restart' not in text
