"""Each way to learn of a worker's death is taken away, and one is left."""

import os
import signal
import threading
import time

import pytest
import torch
from torch.utils.data import Dataset

from mmcrosscl.engine import ResumableRunner


class Numbers(Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        time.sleep(0.01)
        return torch.tensor(index)


@pytest.fixture
def batches():
    before = signal.getsignal(signal.SIGCHLD)
    loader = ResumableRunner.build_dataloader(
        dict(
            dataset=Numbers(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
            batch_size=2,
            num_workers=2,
            timeout=300,
        )
    )
    yield iter(loader)
    signal.signal(signal.SIGCHLD, before)


def test_batches_are_those_of_torch(batches):
    assert [batch.tolist() for batch in batches] == [[n, n + 1] for n in range(0, 1000, 2)]


def test_a_death_that_no_signal_tells_of_is_noticed(batches):
    next(batches)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.kill(batches._workers[0].pid, signal.SIGKILL)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=r'^DataLoader worker \(pid.*exited unexpectedly'):
        list(batches)
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(
    'error', [ConnectionResetError(104, 'reset'), EOFError(), RuntimeError('0 items of ancdata')]
)
def test_a_connection_that_breaks_before_the_death_is_known_names_the_death(
    batches, monkeypatch, error
):
    next(batches)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def broken(timeout):
        threading.Timer(0.2, os.kill, (batches._workers[1].pid, signal.SIGKILL)).start()
        raise error

    monkeypatch.setattr(batches._data_queue, 'get', broken)
    with pytest.raises(RuntimeError, match=r'^DataLoader worker \(pid.*exited unexpectedly'):
        list(batches)
    assert not any(worker.is_alive() for worker in batches._workers)


def test_a_connection_that_breaks_without_a_death_is_not_explained_away(batches, monkeypatch):
    next(batches)

    def broken(timeout):
        raise ConnectionResetError('of something else')

    monkeypatch.setattr(batches._data_queue, 'get', broken)
    with pytest.raises(ConnectionResetError, match='of something else'):
        list(batches)
