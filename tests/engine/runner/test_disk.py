"""Full, read-only and missing disks, and worker processes that die or hang."""

import errno
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmcrosscl.checkpoints import verify_checksums
from mmcrosscl.engine import build_runner
from mmcrosscl.errors import InputError, RunError
from tests.engine import runs
from tests.training import validate_similarity

FILE_SYSTEMS = (
    shutil.which('unshare')
    and not subprocess.run(
        ['unshare', '-rm', 'sh', '-c', 'mount -t tmpfs none /mnt'], capture_output=True
    ).returncode
)
needs_mount = pytest.mark.skipif(
    not FILE_SYSTEMS, reason='needs the permission to mount a file system in a new namespace'
)


@HOOKS.register_module()
class FileLimit(Hook):
    """Imitates a full disk: limits the size of files, in bytes, from an iteration on."""

    def __init__(self, iteration: int, size: int) -> None:
        self.iteration, self.size = iteration, size

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))


@pytest.fixture
def no_limit():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_cannot_be_written_ends_training(tmp_path, no_limit):
    cfg = runs.tiny_run(tmp_path, length=5)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    cfg.custom_hooks = [dict(type='FileLimit', iteration=6, size=50_000)]
    message = r'cannot write .*epoch_3.pth: .*File too large; make room, or choose another'
    with pytest.raises(InputError, match=message):
        build_runner(cfg).train()
    # at most one checkpoint interval is lost
    assert [path.name for path in tmp_path.glob('work/*.pth')] == ['epoch_2.pth']
    assert not list(tmp_path.glob('work/.*'))
    verify_checksums(tmp_path / 'work/epoch_2.pth')


def in_file_system(tmp_path, mount: str, epochs: int):
    """Train with the work dir in a temporary file system, and list the files in the work dir."""
    cfg = runs.tiny_run(tmp_path / 'data', length=epochs)
    # the queue takes about a megabyte in each checkpoint
    cfg.model.queue.length = 25_000
    cfg.work_dir = str(tmp_path / 'disk/work')
    cfg.dump(tmp_path / 'run.py')
    (tmp_path / 'disk').mkdir()
    script = (
        f'mount -t tmpfs {mount} none {tmp_path}/disk || exit 99; '
        f'{sys.executable} -m mmcrosscl train {tmp_path}/run.py; status=$?; '
        f'ls -A {tmp_path}/disk/work 2>/dev/null; exit $status'
    )
    return subprocess.run(
        ['unshare', '-rm', 'sh', '-c', script], capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
@needs_mount
def test_a_full_disk_prints_one_sentence_and_keeps_old_checkpoints(tmp_path):
    done = in_file_system(tmp_path, '-o size=25m', 9)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith('error: cannot write ') and 'No space left on device' in last
    listed = done.stdout.splitlines()
    assert 'epoch_1.pth' in listed and not [name for name in listed if name.endswith('.partial')]


@pytest.mark.slow
@needs_mount
def test_a_read_only_disk_prints_one_sentence(tmp_path):
    done = in_file_system(tmp_path, '-o ro', 1)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('error: cannot write ') and 'Read-only file system' in last


def test_a_work_dir_that_cannot_be_created_is_an_input_error(tmp_path):
    (tmp_path / 'file').write_text('')
    cfg = runs.tiny_run(tmp_path / 'data')
    cfg.work_dir = str(tmp_path / 'file/work')
    with pytest.raises(
        InputError, match='cannot write .*file.*; free disk space or make the folder writable'
    ):
        build_runner(cfg)


@pytest.mark.parametrize('code', [errno.EACCES, errno.ESTALE])
def test_a_folder_of_images_that_cannot_be_read_is_named(tmp_path, monkeypatch, code):
    def index(loop):
        raise OSError(code, os.strerror(code), '/photos/locked')

    runner = build_runner(runs.tiny_run(tmp_path))
    # the loop builds the dataset
    monkeypatch.setattr(runner, 'build_train_loop', index)
    message = f'^cannot access /photos/locked: {os.strerror(code)}; give this user access to it'
    with pytest.raises(InputError, match=message):
        runner.train()


def test_missing_images_end_training(tmp_path):
    cfg = runs.tiny_run(tmp_path)
    runner = build_runner(cfg)
    assert len(runner.train_dataloader.dataset) == 12
    shutil.rmtree(tmp_path / 'photos')
    with pytest.raises(InputError, match='images in a row cannot be read, the last one'):
        runner.train()


def test_a_dead_worker_ends_training_in_time(tmp_path):
    cfg = runs.tiny_run(tmp_path, length=200, workers=2)
    cfg.custom_hooks = [dict(type='KillWorker')]
    cfg.default_hooks.checkpoint.interval = 1000
    begin = time.monotonic()
    with pytest.raises(RunError, match='data loading failed.*rerun with --resume'):
        build_runner(cfg).train()
    assert time.monotonic() - begin < 30


def test_a_checkpoint_is_written_although_workers_died(tmp_path):
    cfg = runs.tiny_run(tmp_path, by_epoch=False, length=200, workers=2)
    cfg.custom_hooks = [dict(type='KillWorker')]
    # the hook kills the workers before the checkpoint of the same iteration is written
    cfg.default_hooks.checkpoint.interval = 2
    with pytest.raises(RunError, match='data loading failed'):
        build_runner(cfg).train()
    verify_checksums(tmp_path / 'work/iter_2.pth')


@HOOKS.register_module()
class KillValidationWorker(Hook):
    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        for process in multiprocessing.active_children():
            runs.kill(process)


def test_a_dead_worker_ends_validation(tmp_path):
    cfg = runs.tiny_run(tmp_path)
    validate_similarity(cfg)
    cfg.val_dataloader.num_workers = 1
    cfg.custom_hooks = [dict(type='KillValidationWorker')]
    with pytest.raises(RunError, match='data loading failed .DataLoader worker .*--resume'):
        build_runner(cfg).train()


@pytest.mark.slow
def test_a_file_that_blocks_the_reader_ends_training_in_time(tmp_path):
    cfg = runs.tiny_run(tmp_path, workers=1)
    cfg.train_dataloader.timeout = 5
    runner = build_runner(cfg)
    assert len(runner.train_dataloader.dataset) == 12
    for path in (tmp_path / 'photos').rglob('*.jpg'):
        path.unlink()
        # a reader waits until another process writes to the FIFO
        os.mkfifo(path)
    with pytest.raises(RunError, match='no batch arrived within 5 seconds'):
        runner.train()
