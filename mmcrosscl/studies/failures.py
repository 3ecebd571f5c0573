"""Which jobs of a study failed on which workers, and what follows from it."""

import threading
from collections.abc import Iterable

from mmcrosscl.errors import EXIT_INPUT, EXIT_NON_FINITE, InputError, RunError


class Failures:
    """The failed jobs of the workers of one process.

    No worker tries a job again that ended with an input error or NaN/Inf, because it would fail
    again. The cause of another failure may be the job or the device of the worker, so one more
    worker tries the job. A worker stops if two jobs have failed on it and on no other worker,
    unless it is the last one.

    Args:
        workers (Iterable[int]): Numbers of the workers.
    """

    def __init__(self, workers: Iterable[int]) -> None:
        self.errors: dict[str, InputError | RunError] = {}
        self._working = set(workers)
        self._failed_on: dict[str, set[int]] = {}
        # jobs that failed on a worker after its last success
        self._recent: dict[int, set[str]] = {worker: set() for worker in self._working}
        self._lock = threading.Lock()

    def add(self, job: str, worker: int, error: InputError | RunError) -> None:
        """Add a failure of a job on a worker."""
        with self._lock:
            self.errors[job] = error
            if error.exit_status in (EXIT_INPUT, EXIT_NON_FINITE):
                self._failed_on[job] = set(self._recent)
            else:
                self._failed_on.setdefault(job, set()).add(worker)
            self._recent[worker].add(job)

    def succeed(self, worker: int) -> None:
        """Note that a worker has finished a job."""
        with self._lock:
            self._recent[worker].clear()

    def lost(self) -> set[str]:
        """Return the jobs that no worker tries again."""
        with self._lock:
            failed = self._failed_on.items()
            return {job for job, on in failed if len(on) > 1 or on >= self._working}

    def refused(self, worker: int) -> set[str]:
        """Return the jobs that a worker does not try again."""
        lost = self.lost()
        with self._lock:
            return lost | {job for job, on in self._failed_on.items() if worker in on}

    def stops(self, worker: int) -> bool:
        """Return whether a worker must stop because its device may be broken."""
        with self._lock:
            alone = [job for job in self._recent[worker] if self._failed_on[job] == {worker}]
            if len(alone) < 2 or self._working == {worker}:
                return False
            self._working.discard(worker)
            return True

    def leave(self, worker: int) -> None:
        """Note that a worker has ended."""
        with self._lock:
            self._working.discard(worker)
