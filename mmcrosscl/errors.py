"""Exceptions with a message for the user, and the exit statuses of the command."""

import errno
import os
import re
import signal
from collections.abc import Mapping

# Invalid input: the same command fails again until the input is fixed.
EXIT_INPUT = 1
# Wrong usage of the command, as argparse exits.
EXIT_USAGE = 2
# Several consecutive NaN/Inf steps, which a restart would repeat.
EXIT_NON_FINITE = os.EX_DATAERR
# An unexpected error: a traceback is printed.
EXIT_UNEXPECTED = os.EX_SOFTWARE
# A failure of the machine, not of the input: the same command with --resume may succeed.
EXIT_RETRY = os.EX_IOERR
# Training was preempted after a checkpoint was saved: the command can be rerun with --resume.
EXIT_PREEMPTED = os.EX_TEMPFAIL
# Signals that clusters send before they take a machine.
PREEMPTING = (signal.SIGTERM, signal.SIGUSR1)
# error codes of a full or read-only disk, and of a file in the place of a folder to create
UNWRITABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENOTDIR, errno.EEXIST,
)  # fmt: skip
# error codes of a file or folder without access or in a missing file system
UNREACHABLE = (errno.EACCES, errno.EPERM, errno.ESTALE, errno.ENOTCONN, errno.ENODEV)
UNUSABLE = (*UNWRITABLE, *UNREACHABLE, errno.EIO)


class InputError(ValueError):
    """A setting, file or batch that cannot be used.

    The message is one sentence that names the cause and the fix. Commands print the message and
    exit with status 1.
    """

    exit_status = EXIT_INPUT


class BrokenImageError(InputError):
    """An image file that cannot be decoded completely.

    Args:
        path (str): Path of the file.
        reason (str): Reason why the image cannot be read.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f'cannot read image {path}: {reason}')
        self.path = path
        self.reason = reason


class DamagedCheckpointError(InputError):
    """A file that is truncated, fails its checksum, or is not a checkpoint."""


class RunError(RuntimeError):
    """A failure of the machine during a run with valid settings, such as a killed process.

    The message is one sentence. Commands print the message and exit with status 74. The same
    command with `--resume` may succeed, unlike after an :class:`InputError`.
    """

    exit_status = EXIT_RETRY


class NonFiniteError(RunError):
    """Training stopped after several consecutive NaN/Inf steps.

    Commands exit with status 65.
    """

    exit_status = EXIT_NON_FINITE


class Preempted(SystemExit):
    """Training was preempted. A checkpoint is saved, and the process exits with status 75."""

    code: int

    def __init__(self) -> None:
        super().__init__(EXIT_PREEMPTED)


def inaccessible(error: OSError) -> InputError:
    """Return the error of a file or folder that can be neither read nor written.

    Args:
        error (OSError): Error with a ``filename``, and with an ``errno`` of :data:`UNUSABLE`.
    """
    return InputError(
        f'cannot access {os.fsdecode(error.filename)}: {error.strerror}; give this user access to '
        'it, check that its storage is mounted, or choose another path'
    )


def sentence(error: BaseException) -> str:
    """Return the message of an error, without the traceback that a worker process adds."""
    text = str(error).rstrip()
    if 'Traceback (most recent call last)' in text:
        text = text.splitlines()[-1]
    return re.sub(r'^[\w.]+Error: ', '', text)


def check_at_least_one(numbers: Mapping[str, int | None]) -> None:
    """Raise an error if a number is below 1.

    Args:
        numbers (Mapping[str, int | None]): Values by the name of their option. None is not checked.

    Raises:
        InputError: If a number is below 1.
    """
    for option, number in numbers.items():
        if number is not None and number < 1:
            raise InputError(f'{option} is {number}; set a number of at least 1')
