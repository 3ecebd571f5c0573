"""Locks of files, which workers on several machines respect."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from mmcrosscl.errors import InputError


def lock_file(file: TextIO, operation: int) -> None:
    """Lock a file as ``fcntl.flock`` does.

    Raises:
        BlockingIOError: If another process has the lock, and the operation does not wait.
        InputError: If the file system does not support locks.
    """
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        raise InputError(
            f'{file.name} cannot be locked: {error.strerror}; set --work-dir to a folder on a file '
            'system with locks, such as a local disk'
        ) from error


@contextlib.contextmanager
def locked(work_dir: Path) -> Iterator[None]:
    """Wait until no other process writes the files of the whole study."""
    work_dir.mkdir(parents=True, exist_ok=True)
    with (work_dir / 'lock').open('w') as file:
        lock_file(file, fcntl.LOCK_EX)
        yield
