"""Errors with a message for the user, and the exit status of a command that ends in each."""

import os
import re
import signal

# A mistake in the input: the same command fails again until the input is fixed.
EXIT_INPUT = 1
# An error that mmcrosscl did not expect; a traceback is printed.
EXIT_UNEXPECTED = os.EX_SOFTWARE
# The machine failed, not the input: the same command with --resume may succeed.
EXIT_RETRY = os.EX_IOERR
# Training was preempted after a checkpoint was saved: run it again with --resume.
EXIT_PREEMPTED = os.EX_TEMPFAIL
# What clusters send before they take a machine.
PREEMPTING = (signal.SIGTERM, signal.SIGUSR1)


class InputError(ValueError):
    """A setting, file or batch that cannot be used.

    The message is one sentence that names the offending thing and the fix. Commands print it and
    exit with status 1.
    """

    exit_status = EXIT_INPUT


class BrokenImageError(InputError):
    """An image file that cannot be decoded completely.

    Args:
        path (str): The file.
        reason (str): Why it cannot be read.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f'cannot read image {path}: {reason}')
        self.path = path
        self.reason = reason


class DamagedCheckpointError(InputError):
    """A file that is truncated, fails its checksum, or is not a checkpoint."""


class RunError(RuntimeError):
    """A failure of the machine during a run with valid settings, such as a killed process.

    The message is one sentence. Commands print it and exit with status 74. Unlike after an
    :class:`InputError`, the same command with `--resume` may succeed.
    """

    exit_status = EXIT_RETRY


class NonFiniteError(RunError):
    """Training stopped after several consecutive NaN/Inf steps.

    Restarting repeats them, so the exit status is that of an :class:`InputError`.
    """

    exit_status = EXIT_INPUT


class Preempted(SystemExit):
    """Training was preempted: a checkpoint is saved, and the process exits with status 75."""

    def __init__(self) -> None:
        super().__init__(EXIT_PREEMPTED)


def sentence(error: Exception) -> str:
    """Return the error's one sentence, without the traceback that a worker process adds."""
    return re.sub(r'^[\w.]+Error: ', '', str(error).rstrip().splitlines()[-1])
