"""Waiting for batches: a worker that died or hangs ends training with one sentence."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

from torch.utils.data import DataLoader

from mmcrosscl.errors import RunError

# seconds that the system may need to report a death
DEATH_NOTICE = 5
# what a broken connection to a worker raises: an error of the socket, or of torch that reads it
CONNECTION_ERRORS = (OSError, EOFError, RuntimeError)
ADVICE = (
    'a worker process was killed (out of memory?) or the storage is unavailable; lower '
    'train_dataloader.num_workers or fix the storage, and rerun with --resume'
)


class BatchIterator:
    """Iterates over batches and raises RunError if a worker died or no batch arrives in time.

    The time limit is not torch's ``timeout``: with that, torch looks for dead workers only once
    the time has passed. A timer signal interrupts the wait instead, which also ends a wait within
    the receipt of a batch. Signals reach the main thread alone; in other threads there is no limit.

    Args:
        batches (Iterable): A loader, or an endless iterator over it.
        timeout (float): Seconds to wait for a batch; 0 waits forever.

    Raises:
        RunError: In iterating.
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
            with time_limit(self.timeout):
                # Persistent workers are waited for here too.
                if self._iterator is None:
                    self._iterator = iter(self.batches)
                batch = next(self._iterator)
        except CONNECTION_ERRORS as error:
            if isinstance(error, RunError):
                raise
            dead = self._dead_workers()
            if not dead:
                raise
            raise RunError(
                f'data loading failed: worker process {", ".join(dead)} ended; {ADVICE}'
            ) from error
        # A process that ended is missing from the next list, so the last list is kept.
        self._workers = multiprocessing.active_children()
        return batch

    def _dead_workers(self) -> list[str]:
        """Return the process ids of children that ended since the last batch."""
        end = time.monotonic() + DEATH_NOTICE
        while self._workers:
            try:
                absorb_deaths()
                dead = [str(w.pid) for w in self._workers if w.exitcode not in (None, 0)]
                if dead or time.monotonic() > end:
                    return dead
                time.sleep(0.01)
            except RuntimeError:
                # torch's handler of SIGCHLD, which may run anywhere here
                continue
        return []


def absorb_deaths() -> None:
    """Let torch report the deaths of workers now, not amid what is done about the first one.

    torch raises them in its handler of SIGCHLD, once for each loader, wherever the main thread is.
    """
    while True:
        try:
            signal.raise_signal(signal.SIGCHLD)
            # a death that is being reported right now
            time.sleep(0.05)
            return
        except RuntimeError:
            continue


def end_workers(loader: DataLoader) -> None:
    """End a loader's persistent workers, now that training is over.

    Otherwise they live until the garbage collector finds the loader, which then waits five seconds
    for each of them: it has closed their queues by then. torch has no public way to do it.
    """
    loader._iterator = None


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise RunError in the main thread if the block takes longer; 0 is no limit."""
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(number: int, frame: object) -> None:
        raise RunError(
            f'data loading failed: no batch arrived within {seconds:g} seconds '
            f'(train_dataloader.timeout); {ADVICE}'
        )

    before = signal.signal(signal.SIGALRM, expire)
    # The timer repeats, since Python drops an exception that is raised within some callbacks.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def keep_alive_on_signals(init: object, worker_id: int) -> None:
    """Initialize a worker that ends only when its parent says so.

    Clusters signal all processes of a job, and the main one still needs a batch or two.

    Args:
        init (Callable, optional): The ``worker_init_fn`` that the loader had.
        worker_id (int): Passed on to it.
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
