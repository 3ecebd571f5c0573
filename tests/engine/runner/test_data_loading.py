"""Worker processes that die or hang: each way to learn of it is taken away, and one is left."""

import multiprocessing
import os
import signal
import subprocess
import threading
import time

import pytest
import torch
from torch.utils.data import Dataset

from mmcrosscl.engine import ResumableRunner, build_runner
from mmcrosscl.engine.runner import data_loading
from mmcrosscl.engine.runner.data_loading import (
    BatchIterator,
    absorb_deaths,
    end_workers,
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


def build_loader(**settings):
    return ResumableRunner.build_dataloader(
        dict(
            dataset=Numbers(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
            batch_size=2,
            num_workers=2,
            **settings,
        )
    )


@pytest.fixture
def loader():
    before = signal.getsignal(signal.SIGCHLD)
    yield build_loader()
    signal.signal(signal.SIGCHLD, before)
    absorb_deaths()


@pytest.fixture
def workers():
    """The worker processes, once there are any."""
    known = {child.pid for child in multiprocessing.active_children()}
    return lambda: [c for c in multiprocessing.active_children() if c.pid not in known]


def test_batches_are_those_of_torch(loader):
    batches = BatchIterator(loader, timeout=100)
    assert [batch.tolist() for batch in batches] == [[n, n + 1] for n in range(0, 200, 2)]


@pytest.mark.slow
def test_a_death_that_no_signal_tells_of_is_noticed(loader, workers):
    batches = BatchIterator(loader, timeout=300)
    next(batches)
    # torch learns of deaths from an exception in its handler, which can get lost
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    victim = workers()[0]
    os.kill(victim.pid, signal.SIGKILL)
    begin = time.monotonic()
    with pytest.raises(RunError, match=f'worker process .*{victim.pid}.* ended; .*--resume'):
        list(batches)
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(
    'error', [ConnectionResetError(104, 'reset'), EOFError(), RuntimeError('0 items of ancdata')]
)
def test_a_connection_that_breaks_before_the_death_is_known_names_the_death(loader, workers, error):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    source = iter(loader)

    def broken():
        yield next(source)
        victim = workers()[1]
        threading.Timer(0.2, os.kill, (victim.pid, signal.SIGKILL)).start()
        raise error

    batches = BatchIterator(broken(), timeout=0)
    next(batches)
    with pytest.raises(RunError, match=r'worker process \d+ ended'):
        next(batches)


def test_a_connection_that_breaks_without_a_death_is_not_explained_away(loader, monkeypatch):
    monkeypatch.setattr(data_loading, 'DEATH_NOTICE', 0.5)
    source = iter(loader)

    def broken():
        yield next(source)
        raise ConnectionResetError('of something else')

    batches = BatchIterator(broken(), timeout=0)
    next(batches)
    with pytest.raises(ConnectionResetError, match='of something else'):
        next(batches)


def test_a_frozen_worker_is_not_waited_for(loader, workers):
    """Stopped in whatever it does, also amid the handing over of a batch."""
    batches = BatchIterator(loader, timeout=2)
    next(batches)
    frozen = workers()
    for worker in frozen:
        os.kill(worker.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RunError, match='no batch arrived within 2 seconds'):
            list(batches)
    finally:
        for worker in frozen:
            os.kill(worker.pid, signal.SIGCONT)


def test_the_limit_is_for_the_wait_alone_and_restores_the_handler():
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(0.2):
        pass
    time.sleep(0.4)
    assert signal.getsignal(signal.SIGALRM) == before
    with pytest.raises(RunError), time_limit(0.2):
        time.sleep(5)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_an_exception_that_python_drops_is_raised_again():
    class Callback:
        def __del__(self):
            time.sleep(0.5)

    begin = time.monotonic()
    with pytest.raises(RunError), time_limit(0.2):
        Callback()
        time.sleep(10)
    assert time.monotonic() - begin < 5


def test_other_threads_have_no_limit():
    done = []

    def wait():
        with time_limit(0.1):
            time.sleep(0.3)
        done.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert done


def test_the_deaths_of_several_loaders_are_reported_once(workers):
    """torch raises for each loader at a SIGCHLD, whenever a child of the process ends."""
    loaders = [build_loader(persistent_workers=True) for _ in range(2)]
    iterators = [BatchIterator(loader, timeout=0) for loader in loaders]
    for batches in iterators:
        next(batches)
    for worker in workers():
        worker.kill()
    with pytest.raises((RunError, RuntimeError)):
        for _ in range(100):
            next(iterators[0])
    absorb_deaths()
    subprocess.run(['true'], check=True)
    time.sleep(0.1)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_workers_end_with_the_training(tmp_path, workers, by_epoch):
    cfg = runs.tiny_run(tmp_path, by_epoch=by_epoch, length=2, workers=2)
    assert cfg.train_dataloader.persistent_workers
    runner = build_runner(cfg)
    runner.train()
    assert not workers()
    if by_epoch:
        # the loader is as usable as before; MMEngine's endless samplers begin but once
        assert len(next(iter(runner.train_dataloader))['data_samples']) == 4
        end_workers(runner.train_dataloader)
