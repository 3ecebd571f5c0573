"""tools/slurm_train.sh, with scripts in place of srun and scontrol."""

import os
import subprocess

from mmcrosscl.errors import EXIT_PREEMPTED

CONFIG = 'configs/crosscl/r50_8xb32.py'


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
    assert words[-10:] == [
        '-u', '-m', 'mmcrosscl', 'train', CONFIG, '--work-dir', 'work dir', '--launcher', 'slurm',
        '--resume',
    ]  # fmt: skip


def test_a_preempted_job_is_requeued(tmp_path, monkeypatch):
    """The first srun exits with status 75, the second with status 0."""
    (tmp_path / 'srun').write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        f'[ $(wc -l < {tmp_path}/calls) -gt 1 ] && exit 0\nexit 75\n'
    )
    (tmp_path / 'scontrol').write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol_calls\n')
    for name in ('srun', 'scontrol'):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.delenv('SLURM_JOB_ID', raising=False)
    command = ['tools/slurm_train.sh', 'gpu', 'job', CONFIG, 'work', '--amp']
    assert subprocess.run(command).returncode == 0
    first, second = (tmp_path / 'calls').read_text().splitlines()
    assert '--signal=USR1@120' in first
    assert first.endswith('--launcher slurm --amp') and second == f'{first} --resume'

    (tmp_path / 'calls').unlink()
    monkeypatch.setenv('SLURM_JOB_ID', '4711')
    assert subprocess.run(command).returncode == EXIT_PREEMPTED
    assert (tmp_path / 'scontrol_calls').read_text() == 'requeue 4711\n'
    assert len((tmp_path / 'calls').read_text().splitlines()) == 1
