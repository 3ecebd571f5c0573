"""Iteration over batches that raises a short error if a worker process died or hangs."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from mmcrosscl.errors import RunError

# seconds to wait until the operating system reports the death of a process
DEATH_NOTICE = 5
# exceptions of a broken connection to a worker: from the socket, or from torch, which reads it
CONNECTION_ERRORS = (OSError, EOFError, RuntimeError)
ADVICE = (
    'a worker process was killed (out of memory?) or the storage is unavailable; reduce '
    'train_dataloader.num_workers or fix the storage, then rerun with --resume'
)


class BatchIterator:
    """Iterates over batches, and raises a RunError if a worker died or no batch arrives in time.

    The class does not use torch's ``timeout``, because torch then checks for dead workers only
    after the timeout. Instead, a timer signal interrupts the wait, even while a batch is being
    received. Signals reach only the main thread, so there is no time limit in other threads.

    torch reports the death of a worker by an exception at an arbitrary point of the main thread.
    After the first batch, the class defers these reports until the next batch is requested, so that
    they cannot interrupt a training step or the writing of a checkpoint. Call
    :func:`restore_death_reports` after training.

    Args:
        batches (Iterable): A data loader, or an endless iterator over its batches.
        timeout (float): Time limit for each batch, in seconds. 0 sets no limit.

    Raises:
        RunError: During iteration.
    """

    def __init__(self, batches: Iterable, timeout: float) -> None:
        self.batches = batches
        self.timeout = timeout
        self._iterator: Iterator | None = None
        self._workers: list[BaseProcess] = multiprocessing.active_children()

    def __iter__(self) -> 'BatchIterator':
        return self

    def __next__(self) -> object:
        try:
            try:
                resume_death_reports()
                with time_limit(self.timeout):
                    # `iter` also waits for persistent workers, so it is within the time limit.
                    if self._iterator is None:
                        self._iterator = iter(self.batches)
                    batch = next(self._iterator)
            finally:
                defer_death_reports()
        except CONNECTION_ERRORS as error:
            # a report can have interrupted the first call
            defer_death_reports()
            if isinstance(error, RunError):
                raise
            dead = self._dead_workers()
            if not dead:
                raise
            raise RunError(
                f'data loading failed: worker process {", ".join(dead)} died; {ADVICE}'
            ) from error
        # active_children() omits processes that have ended. Those that died stay in the list, to be
        # named when a later batch fails.
        seen = dict.fromkeys((*self._workers, *multiprocessing.active_children()))
        self._workers = [worker for worker in seen if worker.exitcode != 0]
        return batch

    def _dead_workers(self) -> list[str]:
        """Return the process ids of workers that died after the last batch."""
        end = time.monotonic() + DEATH_NOTICE
        while self._workers:
            dead = [str(worker.pid) for worker in self._workers if worker.exitcode not in (None, 0)]
            if dead or time.monotonic() > end:
                return dead
            time.sleep(0.01)
        return []


class _Deferred:
    """SIGCHLD handler that does nothing, and keeps the handler that it replaces."""

    def __init__(self, handler: Callable[[int, FrameType | None], object] | int) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        pass


def defer_death_reports() -> None:
    """Replace torch's SIGCHLD handler, which raises an error, until reports are resumed."""
    while threading.current_thread() is threading.main_thread():
        try:
            handler = signal.getsignal(signal.SIGCHLD)
            # None is a handler that Python cannot restore
            if handler is not None and not isinstance(handler, _Deferred):
                signal.signal(signal.SIGCHLD, _Deferred(handler))
            return
        except RuntimeError:
            # the worker stays in the list of BatchIterator
            continue


def resume_death_reports() -> None:
    """Install torch's SIGCHLD handler again, and report the deaths since it was replaced.

    A process that has been joined since is not reported. Its loader waits for its batch, and finds
    it dead after 5 seconds.

    Raises:
        RuntimeError: By torch, if a worker died.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    if isinstance(handler, _Deferred) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, handler.handler)
        signal.raise_signal(signal.SIGCHLD)


def restore_death_reports() -> None:
    """Install torch's SIGCHLD handler again, and drop the reports of deaths so far.

    torch raises one RuntimeError per data loader whose worker died.
    """
    while True:
        try:
            resume_death_reports()
            return
        except RuntimeError:
            defer_death_reports()


def omit_batches(loader: DataLoader, count: int) -> bool:
    """Let the next iteration of a data loader start after some batches, which are not loaded.

    Args:
        loader (DataLoader): A data loader that has not started yet. Later iterations are complete.
        count (int): Number of batches.

    Returns:
        bool: Whether it is possible: the dataset has indices, and the loader has a batch sampler.
    """
    if loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
        return False
    # torch does not allow a new batch sampler, and persistent workers keep that of the first epoch
    vars(loader)['batch_sampler'] = _RestOfBatches(loader.batch_sampler, count)
    return True


class _RestOfBatches:
    """A batch sampler whose first iteration omits some batches."""

    def __init__(self, batches: Any, count: int) -> None:
        self._batches, self._count = batches, count

    def __iter__(self) -> Iterator:
        # torch calls `iter` more than once before it requests the first batch
        count, self._count = self._count, 0
        yield from islice(self._batches, count, None)

    def __len__(self) -> int:
        return len(self._batches)

    def __getattr__(self, name: str) -> object:
        return getattr(self._batches, name)


def end_workers(loader: DataLoader) -> None:
    """Stop the persistent workers of a data loader after training.

    Otherwise, the workers run until the loader is garbage-collected. By then, their queues are
    closed, and the loader waits five seconds for each worker. torch has no public function that
    stops the workers.
    """
    loader._iterator = None


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise a RunError in the main thread if the block takes longer. 0 sets no limit."""
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(number: int, frame: object) -> None:
        raise RunError(
            f'data loading failed: no batch arrived within {seconds:g} seconds '
            f'(train_dataloader.timeout); {ADVICE}'
        )

    before = signal.signal(signal.SIGALRM, expire)
    # The timer repeats, because Python drops exceptions in some callbacks, such as `__del__`.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def keep_alive_on_signals(init: Callable[[int], object] | None, worker_id: int) -> None:
    """Initialize a worker process that ignores SIGUSR1, and SIGTERM unless its parent sends it.

    A cluster sends its signals to all processes of a job, but the main process still needs batches
    to finish its step.

    Args:
        init (Callable, optional): The ``worker_init_fn`` of the loader's config.
        worker_id (int): Argument of ``init``.
    """
    if init is not None:
        init(worker_id)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_exit_on_signal_of_parent, daemon=True).start()


def _exit_on_signal_of_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
