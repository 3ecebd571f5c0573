"""tools/dist_train.sh: several processes, signals, killed processes and restarts."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from mmcrosscl.checkpoints import verify_checksums
from mmcrosscl.errors import EXIT_NON_FINITE, EXIT_PREEMPTED, EXIT_RETRY
from mmcrosscl.network import port_is_free
from tests.ports import free_port
from tests.slurm import wait_until
from tests.tools.processes import ranks, wait_for

pytestmark = pytest.mark.slow

CONFIG = 'configs/crosscl/r50_8xb32_folder.py'
TRAIN = [sys.executable, '-m', 'mmcrosscl', 'train', CONFIG]


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
    machines = dict(NNODES='2', MASTER_ADDR='127.0.0.1', PORT=str(port))
    process = launch('tools/dist_train.sh', CONFIG, 1, **machines)
    wait_until(lambda: not port_is_free(port))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) != 0
    wait_until(
        lambda: not subprocess.run(['pgrep', '-s', str(process.pid)], capture_output=True).stdout
    )


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


@pytest.mark.slow(30)
def test_nan_is_not_retried(tmp_path, launch):
    options = ['optim_wrapper.optimizer.lr=1e30', 'default_hooks.non_finite.limit=2']
    process = launch('tools/dist_train.sh', CONFIG, 2, options=options)
    assert process.wait(120) == EXIT_NON_FINITE
    text = (tmp_path / 'out').read_text()
    assert 'consecutive steps; inspect the first of them' in text and 'resumes' not in text


@pytest.mark.parametrize('after', ['connecting', 'start'])
def test_a_signal_before_training_preempts_the_job(tmp_path, launch, after):
    """Nothing is lost, so the same command can run again."""
    if after == 'connecting':
        port = free_port()
        other = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='127.0.0.1', PORT=str(port))
        process = launch('tools/dist_train.sh', CONFIG, 1, **other)
        wait_for(tmp_path, f'connecting to 127.0.0.1:{port}')
    else:
        process = launch('tools/dist_train.sh', CONFIG, 2)
        wait_until(lambda: len(ranks(tmp_path)) == 2)
    process.terminate()
    assert process.wait(60) == EXIT_PREEMPTED
    assert not list(tmp_path.glob('work/*.pth'))


def test_a_process_that_cannot_save_in_time_is_reported(tmp_path, launch):
    process = launch('tools/dist_train.sh', CONFIG, 1, GRACE='3')
    wait_for(tmp_path, 'epoch 2/')
    os.kill(ranks(tmp_path)[0], signal.SIGSTOP)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == EXIT_RETRY
    assert re.search(
        r'1 of 1 processes ended without a saved checkpoint \(statuses \[-9\]\); a process that '
        'needs more than GRACE seconds', (tmp_path / 'out').read_text()
    )  # fmt: skip


@pytest.mark.parametrize(
    'machines, problem',
    [
        (dict(NNODES='two'), 'NNODES=two is not an integer; correct or unset it'),
        (dict(NNODES='2'), 'NNODES=2 needs MASTER_ADDR; set it to the address of one of the'),
        (dict(NNODES='2', MASTER_ADDR='no.such.host.invalid'), 'cannot be resolved'),
        (dict(NNODES='2', MASTER_ADDR='127.0.0.1'), r'port \d+ of this machine is in use'),
    ],
)
def test_wrong_settings_of_several_machines_are_reported(tmp_path, launch, machines, problem):
    with socket.socket() as other_job:
        other_job.bind(('', 0))
        other_job.listen()
        port = str(other_job.getsockname()[1])
        process = launch('tools/dist_train.sh', CONFIG, 1, **machines, PORT=port)
        assert process.wait(60) == 1
    text = (tmp_path / 'out').read_text()
    assert re.search(problem, text) and text.count('\n') == 1


@pytest.mark.slow(30)
def test_node_rank_selects_the_machine_of_rank_0(tmp_path, launch):
    """Both launchers run on this machine, so its address does not tell them apart."""
    settings = dict(NNODES='2', MASTER_ADDR='127.0.0.1', PORT=str(free_port()))
    command = ['tools/dist_train.sh', CONFIG, 1]
    second = launch(*command, **settings, NODE_RANK='1', out='second')
    first = launch(*command, **settings, NODE_RANK='0', out='first')
    wait_for(tmp_path, 'epoch 1/', out='first')
    second.terminate()
    assert first.wait(60) == second.wait(60) == EXIT_PREEMPTED
    assert 'Preempted: saved' in (tmp_path / 'first').read_text()
    assert 'Preempted: saved' not in (tmp_path / 'second').read_text()
