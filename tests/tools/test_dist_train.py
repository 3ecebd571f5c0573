"""tools/dist_train.sh: several processes, signals, killed processes and restarts."""

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
from mmcrosscl.errors import EXIT_PREEMPTED
from tests.ports import free_port
from tests.training import tiny_options

pytestmark = pytest.mark.slow

CONFIG = 'configs/crosscl/r50_8xb32_folder.py'
TRAIN = [sys.executable, '-m', 'mmcrosscl', 'train', CONFIG]
LONG = ['train_cfg.max_epochs=500', 'train_dataloader.num_workers=1', 'env_cfg.dist_cfg.timeout=15']


@pytest.fixture
def launch(tmp_path, photos):
    """Return a function that starts a command in a new session. The fixture kills all processes."""
    started = []

    def run(*command, options=(), **environment):
        options = [*tiny_options(photos), *LONG, *options]
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
                # a job in the background of a script ignores SIGINT, and so do its children
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        subprocess.run(['pkill', '-KILL', '-s', str(process.pid)])
        for pid in ranks(tmp_path):
            os.kill(pid, signal.SIGKILL)


def ranks(work_dir: Path) -> list[int]:
    """Return the process ids of the ranks, in order.

    Data loader workers, whose parent is a training process, are not included.
    """
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
        trains = b'train' in words and b'--gpus' not in words
        trains &= any(str(work_dir).encode() in word for word in words)
        if trains:
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
    with socket.socket() as client:
        return client.connect_ex(('127.0.0.1', port)) == 0


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1'])
def test_a_preempted_job_saves_a_checkpoint_and_reports_it(tmp_path, launch, name):
    """Like Slurm, the test sends the signal to every process, including data loader workers."""
    process = launch(*TRAIN)
    wait_for(tmp_path, r'epoch 2/\d+ · iteration 6/')
    os.killpg(process.pid, signal.Signals[name])
    assert process.wait(60) == EXIT_PREEMPTED == 75
    text = (tmp_path / 'out').read_text()
    saved = re.search(r'Preempted: saved (\S+) after iteration (\d+)', text)
    verify_checksums(saved[1])
    assert 'Traceback' not in text

    again = launch(*TRAIN, '--resume')
    wait_for(tmp_path, rf'resumes after iteration {saved[2]}\b')
    again.terminate()
    assert again.wait(60) == EXIT_PREEMPTED


def test_signals_after_the_save_change_nothing(tmp_path, launch):
    """Slurm sends signals to all tasks when the first task ends."""
    process = launch(*TRAIN)
    wait_for(tmp_path, 'epoch 2/')
    process.terminate()
    wait_for(tmp_path, 'Preempted: saved')
    while process.poll() is None:
        process.terminate()
        time.sleep(0.005)
    assert process.returncode == EXIT_PREEMPTED


def log_losses(work_dir):
    log = next(work_dir.glob('*/*.log')).read_text()
    return re.findall(r'Epoch\(train\)\s+\[(\d+)\].*? loss: ([\d.]+)', log)


def test_two_processes_train_over_gloo_with_one_view_size_and_are_preempted(tmp_path, launch):
    process = launch(
        'tools/dist_train.sh',
        'configs/crosscl/r50_8xb32-multi-scale_in1k.py',
        2,
        options=[
            # a view size is chosen for every 1 % of the epochs
            'train_cfg.max_epochs=100',
            'train_dataloader.dataset.data_prefix=',
            'train_dataloader.drop_last=True',
            'custom_hooks.0.scales=[32,64]',
            # ranks with different view sizes would hang or fail
            'randomness.diff_rank_seed=True',
            'randomness.seed=1',
        ],
    )
    wait_for(tmp_path, r'Saved .*epoch_4\.pth', 120)
    # the launcher forwards SIGTERM, and all processes end after one checkpoint is saved
    process.terminate()
    assert process.wait(60) == EXIT_PREEMPTED
    assert len(re.findall('Preempted: saved', (tmp_path / 'out').read_text())) == 1
    assert not ranks(tmp_path)
    epochs = [int(epoch) for epoch, _ in log_losses(tmp_path / 'work')]
    assert epochs[:8] == [1, 1, 2, 2, 3, 3, 4, 4]  # 16 images over 2 × 4
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert 'Distributed training: True' in log and 'GPU number: 2' in log
    assert set(re.findall(r'Views are (\d+) pixels', log)) == {'32', '64'}
    assert (tmp_path / 'work/epoch_4.pth').exists()


def test_two_jobs_on_one_machine_do_not_interfere(tmp_path, launch):
    """Without PORT, each job has a separate rendezvous."""
    first = launch('tools/dist_train.sh', CONFIG, 1)
    wait_for(tmp_path, 'epoch 1/')
    second = launch('tools/dist_train.sh', CONFIG, 1, options=['train_cfg.max_epochs=1'])
    assert second.wait(120) == 0
    assert first.poll() is None


def test_ctrl_c_ends_the_wait_for_other_machines(tmp_path, launch):
    port = free_port()
    process = launch('tools/dist_train.sh', CONFIG, 1, NNODES='2', PORT=str(port))
    until(lambda: listens(port))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) != 0
    until(lambda: not subprocess.run(['pgrep', '-s', str(process.pid)], capture_output=True).stdout)


@pytest.mark.slow(60)
@pytest.mark.parametrize('name', ['SIGKILL', 'SIGSTOP'])
def test_a_rank_that_dies_or_hangs_is_restarted(tmp_path, launch, name):
    """If one rank hangs, the other waits for env_cfg.dist_cfg.timeout, here 15 s."""
    process = launch('tools/dist_train.sh', CONFIG, 2)
    position = wait_for(tmp_path, r'Saved .*epoch_2\.pth')
    pids = ranks(tmp_path)
    assert len(pids) == 2
    os.kill(pids[1], signal.Signals[name])
    # the timeout, 30 s until torch's launcher sends SIGKILL, and the start
    position = wait_for(tmp_path, 'resumes after iteration', 15 + 30 + 60, position)
    wait_for(tmp_path, 'Saved ', 60, position)
    process.terminate()
    assert process.wait(90) == EXIT_PREEMPTED


def test_an_input_error_is_not_retried(tmp_path, launch):
    gone = [f'train_dataloader.dataset.data_root={tmp_path}/gone']
    process = launch('tools/dist_train.sh', CONFIG, 2, options=gone)
    assert process.wait(120) == 1
    text = (tmp_path / 'out').read_text()
    assert 0 < text.replace('gone/', 'gone').count('gone does not exist; set data_root') <= 2
