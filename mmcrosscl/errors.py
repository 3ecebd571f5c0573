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


def sentence(error: InputError) -> str:
    """The error's one sentence, also where a worker process put its traceback before it."""
    return re.sub(r'^[\w.]+Error: ', '', str(error).rstrip().splitlines()[-1])
