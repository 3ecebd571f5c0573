"""Worker processes that die or hang: the tests disable all but one way to detect them."""

import multiprocessing
import os
import signal
import subprocess
import threading
import time

import pytest
import torch
from torch.utils.data import Dataset
from torch.utils.data._utils import signal_handling

from mmcrosscl.engine import ResumableRunner, build_runner
from mmcrosscl.engine.runner import data_loading
from mmcrosscl.engine.runner.data_loading import (
    BatchIterator,
    defer_death_reports,
    end_workers,
    restore_death_reports,
    time_limit,
)
from mmcrosscl.errors import RunError
from tests.engine import runs


class Numbers(Dataset):
    def __len__(self):
        return 200

    def __getitem__(self, index):
        time.sleep(0.01)
        return torch.tensor(index)


class Freeze:
    """Stops the worker that pickled it while the main process unpickles the batch."""

    def __reduce__(self):
        return os.kill, (os.getpid(), signal.SIGSTOP)


class FreezingNumbers(Numbers):
    def __getitem__(self, index):
        return [Freeze(), super().__getitem__(index)] if index == 4 else index


def build_loader(dataset=None, **settings):
    return ResumableRunner.build_dataloader(
        dict(
            dataset=dataset or Numbers(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
            batch_size=2,
            num_workers=2,
            **settings,
        )
    )


@pytest.fixture
def loader():
    # torch sets its handler once per process, but some of the tests replace it
    signal_handling._set_SIGCHLD_handler()
    before = signal.getsignal(signal.SIGCHLD)
    yield build_loader()
    signal.signal(signal.SIGCHLD, before)
    defer_death_reports()
    restore_death_reports()


@pytest.fixture
def workers():
    """Return a function that lists the worker processes of the test."""
    known = {child.pid for child in multiprocessing.active_children()}
    return lambda: [c for c in multiprocessing.active_children() if c.pid not in known]


def test_batches_equal_those_of_torch(loader):
    batches = BatchIterator(loader, timeout=100)
    assert [batch.tolist() for batch in batches] == [[n, n + 1] for n in range(0, 200, 2)]


@pytest.mark.slow
def test_a_dead_worker_is_detected_without_a_signal(loader, workers):
    batches = BatchIterator(loader, timeout=300)
    next(batches)
    # torch reports deaths by an exception in its SIGCHLD handler, and the exception can get lost
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    victim = workers()[0]
    os.kill(victim.pid, signal.SIGKILL)
    begin = time.monotonic()
    with pytest.raises(RunError, match=f'worker process .*{victim.pid}.* died; .*--resume'):
        list(batches)
    assert time.monotonic() - begin < 60


def test_a_worker_is_named_although_another_batch_arrived_after_its_death(loader, workers):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    source = iter(loader)
    victim = workers()[0]

    def batches():
        yield next(source)
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        # the loader itself may first receive a batch that the dead worker sent
        yield 'a batch of the other worker'
        yield from source

    batches = BatchIterator(batches(), timeout=300)
    next(batches)
    next(batches)
    with pytest.raises(RunError, match=f'worker process {victim.pid} died; .*--resume'):
        list(batches)


@pytest.mark.parametrize(
    'error', [ConnectionResetError(104, 'reset'), EOFError(), RuntimeError('0 items of ancdata')]
)
def test_a_broken_connection_to_a_worker_that_dies_names_the_worker(loader, workers, error):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    source = iter(loader)

    def broken():
        yield next(source)
        victim = workers()[1]
        threading.Timer(0.2, os.kill, (victim.pid, signal.SIGKILL)).start()
        raise error

    batches = BatchIterator(broken(), timeout=0)
    next(batches)
    with pytest.raises(RunError, match=r'worker process \d+ died'):
        next(batches)


def test_a_broken_connection_without_a_dead_worker_raises_the_original_error(loader, monkeypatch):
    monkeypatch.setattr(data_loading, 'DEATH_NOTICE', 0.5)
    source = iter(loader)

    def broken():
        yield next(source)
        raise ConnectionResetError('to another host')

    batches = BatchIterator(broken(), timeout=0)
    next(batches)
    with pytest.raises(ConnectionResetError, match='to another host'):
        next(batches)


def test_a_stopped_worker_ends_training_at_the_time_limit(loader, workers):
    """The signal stops a worker at any point, even while the worker sends a batch."""
    batches = BatchIterator(loader, timeout=2)
    next(batches)
    stopped = workers()
    for worker in stopped:
        os.kill(worker.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RunError, match='no batch arrived within 2 seconds'):
            list(batches)
    finally:
        for worker in stopped:
            os.kill(worker.pid, signal.SIGCONT)


def test_a_worker_that_freezes_while_it_hands_over_a_batch_ends_training(workers):
    """The main process has received the message, and waits for the memory of its tensor."""
    loader = build_loader(FreezingNumbers())
    loader.collate_fn = list
    begin = time.monotonic()
    try:
        with pytest.raises(RunError, match='no batch arrived within 2 seconds'):
            list(BatchIterator(loader, timeout=2))
        assert time.monotonic() - begin < 30
    finally:
        for worker in workers():
            os.kill(worker.pid, signal.SIGCONT)


def test_the_time_limit_covers_only_the_block_and_restores_the_handler():
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(0.2):
        pass
    time.sleep(0.4)
    assert signal.getsignal(signal.SIGALRM) == before
    with pytest.raises(RunError), time_limit(0.2):
        time.sleep(5)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_the_error_is_raised_again_if_python_drops_it():
    class Callback:
        def __del__(self):
            time.sleep(0.5)

    begin = time.monotonic()
    with pytest.raises(RunError), time_limit(0.2):
        Callback()
        time.sleep(10)
    assert time.monotonic() - begin < 5


def test_other_threads_have_no_time_limit():
    done = []

    def wait():
        with time_limit(0.1):
            time.sleep(0.3)
        done.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert done


def test_a_death_between_batches_is_reported_at_the_next_batch(loader, workers):
    """torch alone raises an error at once, for example while a checkpoint is written."""
    batches = BatchIterator(loader, timeout=300)
    next(batches)
    victim = workers()[0]
    runs.kill(victim)
    subprocess.run(['true'], check=True)
    with pytest.raises(RunError, match=f'worker process {victim.pid} died; .*--resume'):
        next(batches)


def test_the_handler_of_torch_is_restored(loader, workers):
    next(iter(loader))
    before = signal.getsignal(signal.SIGCHLD)
    batches = BatchIterator(loader, timeout=0)
    next(batches)
    assert signal.getsignal(signal.SIGCHLD) != before
    restore_death_reports()
    assert signal.getsignal(signal.SIGCHLD) == before


def test_the_deaths_of_several_loaders_are_dropped(workers):
    """torch raises one error for each loader at each SIGCHLD of any child process."""
    loaders = [build_loader(persistent_workers=True) for _ in range(2)]
    iterators = [BatchIterator(loader, timeout=0) for loader in loaders]
    for batches in iterators:
        next(batches)
    for worker in workers():
        runs.kill(worker)
    with pytest.raises((RunError, RuntimeError)):
        next(iterators[0])
    restore_death_reports()
    subprocess.run(['true'], check=True)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_workers_end_when_training_ends(tmp_path, workers, by_epoch):
    cfg = runs.tiny_run(tmp_path, by_epoch=by_epoch, length=2, workers=2)
    assert cfg.train_dataloader.persistent_workers
    runner = build_runner(cfg)
    runner.train()
    assert not workers()
    if by_epoch:
        # the loader can be used again; MMEngine's infinite samplers cannot start a second time
        assert len(next(iter(runner.train_dataloader))['data_samples']) == 4
        end_workers(runner.train_dataloader)
