"""A loader that notices by itself when a worker process dies."""

import time

from torch.utils.data import DataLoader
from torch.utils.data._utils import MP_STATUS_CHECK_INTERVAL
from torch.utils.data.dataloader import _BaseDataLoaderIter, _MultiProcessingDataLoaderIter


class WatchedLoader(DataLoader):
    """torch's ``DataLoader``, whose ``timeout`` is for slow images and not for dead workers.

    torch learns of a death from SIGCHLD, by an exception wherever the main thread happens to be. It
    may be lost there, as within a log's writing, and then the whole time-out would pass. And
    a worker that dies while it hands over a batch breaks that connection first.

    Raises:
        RuntimeError: In iterating, at most some seconds after a worker died, as torch's own.
    """

    def _get_iterator(self) -> _BaseDataLoaderIter:
        if self.num_workers == 0:
            return super()._get_iterator()
        self.check_worker_number_rationality()
        return _WatchedIterator(self)


class _WatchedIterator(_MultiProcessingDataLoaderIter):
    def _try_get_data(self, timeout: float = MP_STATUS_CHECK_INTERVAL) -> tuple[bool, object]:
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            try:
                # looks for dead workers when its time is up
                found = super()._try_get_data(min(left, MP_STATUS_CHECK_INTERVAL))
            except Exception as error:
                self._blame_the_dead(error)
                raise
            if found[0]:
                return found
        return False, None

    def _blame_the_dead(self, error: Exception) -> None:
        """Say which worker has died; the system may take a moment to know."""
        end = time.monotonic() + MP_STATUS_CHECK_INTERVAL
        while time.monotonic() < end:
            dead = [str(worker.pid) for worker in self._workers if not worker.is_alive()]
            if dead:
                # or the next death would raise too, in the midst of what is done about this one
                self._shutdown_workers()
                raise RuntimeError(
                    f'DataLoader worker (pid(s) {", ".join(dead)}) exited unexpectedly'
                ) from error
            time.sleep(0.01)
