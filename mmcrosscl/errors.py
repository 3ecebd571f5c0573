"""What mmcrosscl raises when the mistake is in its input, never in its code."""

import re


class InputError(ValueError):
    """A setting, file or batch that cannot be used.

    The message is one sentence that names the offending thing and the mend; the command lines of
    `tools/` print it and exit with status 1.
    """


class BrokenImageError(InputError):
    """An image file that cannot be decoded whole.

    Args:
        path (str): The file.
        reason (str): Why it cannot be read.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f'cannot read image {path}: {reason}')
        self.path = path
        self.reason = reason


class DamagedCheckpointError(InputError):
    """A checkpoint file that is cut off, has other contents than were written, or is none."""


class RunError(RuntimeError):
    """What ended a run whose settings were sound, such as a process that was killed.

    Like that of :class:`InputError`, the message is one sentence; starting the run again with
    `--resume` may help, which it does not against an InputError.
    """


def sentence(error: Exception) -> str:
    """The error's one sentence, also where a worker process put its traceback before it."""
    return re.sub(r'^[\w.]+Error: ', '', str(error).rstrip().splitlines()[-1])
