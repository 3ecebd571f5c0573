"""What the launchers do when processes are stopped, killed and told to stop."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmcrosscl.checkpoints import verify_checksums
from mmcrosscl.engine import PREEMPTED
from tests.ports import free_port
from tests.tools.test_train import CONFIG, SMALL

LONG = [*SMALL, 'train_cfg.max_epochs=500', 'model.backbone.base_channels=4',
        'model.backbone.stem_channels=4', 'model.neck.in_channels=[8,16,32]',
        'env_cfg.dist_cfg.timeout=15']  # fmt: skip


@pytest.fixture
def launch(tmp_path, photos):
    """Starts a command line in a process group of its own; all of it is gone at the end."""
    started = []

    def run(*command, options=(), **environment):
        options = [*LONG, f'train_dataloader.dataset.data_root={photos}', *options]
        words = [*command, '--work-dir', tmp_path / 'work', '--cfg-options', *options]
        environment = {
            **os.environ,
            'PYTHON': sys.executable,
            'OMP_NUM_THREADS': '1',
            **environment,
        }
        with (tmp_path / 'out').open('a') as out:
            process = subprocess.Popen(
                [str(word) for word in words],
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment,
            )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        subprocess.run(['pkill', '-KILL', '-s', str(process.pid)])
        for pid in ranks(tmp_path):
            os.kill(pid, signal.SIGKILL)


def ranks(work_dir: Path) -> list[int]:
    """The training processes, in the order of their ranks; workers have a parent of their kind."""
    found = {}
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            words = (folder / 'cmdline').read_bytes().split(b'\0')
            environment = dict(
                item.partition(b'=')[::2] for item in (folder / 'environ').read_bytes().split(b'\0')
            )
            parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
        except OSError:
            continue
        mine = any(b'train.py' in word for word in words[:3])
        mine &= any(str(work_dir).encode() in word for word in words)
        if mine:
            found[int(folder.name)] = (parent, int(environment.get(b'RANK', b'0')))
    first = {pid: rank for pid, (parent, rank) in found.items() if parent not in found}
    return sorted(first, key=first.get)


def wait_for(tmp_path, pattern, seconds=90, after=0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = (tmp_path / 'out').read_text()
        if match := re.search(pattern, text[after:]):
            return after + match.end()
        time.sleep(0.2)
    raise AssertionError(f'no {pattern} within {seconds} s:\n{text[-3000:]}')


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def listens(port):
    with socket.socket() as mine:
        return mine.connect_ex(('127.0.0.1', port)) == 0


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1'])
def test_a_job_that_is_told_to_stop_saves_and_says_so(tmp_path, launch, name):
    """The signal goes to every process, workers too, as Slurm sends it."""
    process = launch(sys.executable, 'tools/train.py', CONFIG)
    wait_for(tmp_path, r'Epoch\(train\)\s+\[2\]\[2/4\]')
    os.killpg(process.pid, signal.Signals[name])
    assert process.wait(60) == PREEMPTED == 75
    text = (tmp_path / 'out').read_text()
    saved = re.search(r'Told to stop: saved (\S+) after iteration (\d+)', text)
    verify_checksums(saved[1])
    assert 'Traceback' not in text

    again = launch(sys.executable, 'tools/train.py', CONFIG, '--resume')
    wait_for(tmp_path, rf'resumed epoch: \d+, iter: {saved[2]}\b')
    again.terminate()
    assert again.wait(60) == PREEMPTED


def test_signals_after_the_save_change_nothing(tmp_path, launch):
    """Slurm ends all tasks when the first one has ended."""
    process = launch(sys.executable, 'tools/train.py', CONFIG)
    wait_for(tmp_path, r'Epoch\(train\)\s+\[2\]')
    process.terminate()
    wait_for(tmp_path, 'Told to stop: saved')
    while process.poll() is None:
        process.terminate()
        time.sleep(0.005)
    assert process.returncode == PREEMPTED


def test_ctrl_c_ends_the_wait_for_other_machines(tmp_path, launch):
    port = free_port()
    process = launch('tools/dist_train.sh', CONFIG, 1, NNODES='2', PORT=str(port))
    until(lambda: listens(port))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) != 0
    until(lambda: not subprocess.run(['pgrep', '-s', str(process.pid)], capture_output=True).stdout)


def test_torchrun_passes_it_on(tmp_path, launch):
    process = launch('tools/dist_train.sh', CONFIG, 2, PORT=str(free_port()))
    wait_for(tmp_path, r'Epoch\(train\)\s+\[2\]')
    process.terminate()
    assert process.wait(60) == PREEMPTED
    assert len(re.findall('Told to stop: saved', (tmp_path / 'out').read_text())) == 1
    assert not ranks(tmp_path)


@pytest.mark.parametrize('name', ['SIGKILL', 'SIGSTOP'])
def test_a_rank_that_dies_or_hangs_is_started_again(tmp_path, launch, name):
    """One that hangs is waited for as long as env_cfg.dist_cfg.timeout, here 15 s."""
    process = launch('tools/dist_train.sh', CONFIG, 2, PORT=str(free_port()))
    place = wait_for(tmp_path, r'Saving checkpoint at 2 epochs')
    pids = ranks(tmp_path)
    assert len(pids) == 2
    os.kill(pids[1], signal.Signals[name])
    # the time-out, torchrun's 30 s before it kills, and a start
    place = wait_for(tmp_path, r'resumed epoch: (\d+)', 15 + 30 + 60, place)
    wait_for(tmp_path, r'Saving checkpoint at', 60, place)
    process.terminate()
    assert process.wait(90) == PREEMPTED


def test_a_mistake_is_not_tried_again(tmp_path, launch):
    process = launch(
        'tools/dist_train.sh', CONFIG, 2, PORT=str(free_port()), options=['model.momentum=0']
    )
    assert process.wait(120) not in (0, PREEMPTED)
    text = (tmp_path / 'out').read_text()
    assert 0 < text.count('error: momentum is 0; it must be above 0') <= 2


def test_slurm_queues_a_preempted_job_again(tmp_path, monkeypatch):
    """With commands in the place of Slurm's: the first srun ends with 75, the second with 0."""
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
    assert subprocess.run(command).returncode == PREEMPTED
    assert (tmp_path / 'scontrol_calls').read_text() == 'requeue 4711\n'
    assert len((tmp_path / 'calls').read_text().splitlines()) == 1


def test_a_job_that_slurm_starts_again_resumes(tmp_path, launch):
    command = [sys.executable, 'tools/train.py', CONFIG]
    assert launch(*command, options=['train_cfg.max_epochs=1']).wait(90) == 0
    again = launch(*command, options=['train_cfg.max_epochs=2'], SLURM_RESTART_COUNT='1')
    wait_for(tmp_path, 'resumed epoch: 1, iter: 4')
    assert again.wait(90) == 0


def test_a_job_started_again_does_not_go_back_to_where_it_first_resumed(tmp_path, launch):
    begin = tmp_path / 'begin.pth'
    command = [sys.executable, 'tools/train.py', CONFIG]
    assert launch(*command, options=['train_cfg.max_epochs=1']).wait(90) == 0
    (tmp_path / 'work' / 'epoch_1.pth').rename(begin)

    command += ['--resume', begin]
    again = launch(*command, options=['train_cfg.max_epochs=2'], SLURM_RESTART_COUNT='1')
    place = wait_for(tmp_path, 'resumed epoch: 1, iter: 4')
    assert again.wait(90) == 0

    begin.unlink()
    again = launch(*command, options=['train_cfg.max_epochs=3'], SLURM_RESTART_COUNT='2')
    wait_for(tmp_path, 'resumed epoch: 2, iter: 8', after=place)
    assert again.wait(90) == 0


def test_a_job_started_again_before_its_first_checkpoint_keeps_what_it_loads(tmp_path, launch):
    begin = tmp_path / 'begin.pth'
    command = [sys.executable, 'tools/train.py', CONFIG]
    assert launch(*command, options=['train_cfg.max_epochs=1']).wait(90) == 0
    (tmp_path / 'work' / 'epoch_1.pth').rename(begin)
    place = len((tmp_path / 'out').read_text())
    options = ['train_cfg.max_epochs=1', f'load_from={begin}']
    assert launch(*command, options=options, SLURM_RESTART_COUNT='1').wait(90) == 0
    text = (tmp_path / 'out').read_text()[place:]
    assert f'Load checkpoint from {begin}' in text and 'resumed epoch' not in text


def test_what_an_earlier_run_left_in_the_work_dir_is_not_resumed_from(tmp_path, launch):
    command = [sys.executable, 'tools/train.py', CONFIG]
    assert launch(*command, options=['train_cfg.max_epochs=3']).wait(90) == 0
    assert launch(*command, options=['train_cfg.max_epochs=1']).wait(90) == 0
    place = len((tmp_path / 'out').read_text())
    again = launch(*command, '--resume', options=['train_cfg.max_epochs=2'])
    assert again.wait(90) == 0
    assert 'resumed epoch: 1, iter: 4' in (tmp_path / 'out').read_text()[place:]
