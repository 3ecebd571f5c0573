"""A filter for messages of dependencies that users can do nothing about."""

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

NOISE = re.compile(
    # optional datasets and metrics of mmpretrain and mmdet
    r'Could not import OneDL|faster_coco_eval is not installed'
    # MMEngine, which then logs that it loads or resumes
    r'|Loads checkpoint by \S+ backend from path: '
    # MMEngine, of processes that run in parallel
    r'|Setting (?:OMP|MKL)_NUM_THREADS environment variable for each process'
    # torch, of a call in MMDetection
    r'|torch\.meshgrid: in an upcoming release'
    # pycocotools, for each annotation file and each evaluation
    r'|loading annotations into memory\.\.\.$|creating index\.\.\.$|index created!$'
    r'|Loading and preparing results\.\.\.$|Running per image evaluation\.\.\.$'
    r'|Evaluate annotation type \*\w+\*$|Accumulating evaluation results\.\.\.$'
    r'|D(?:one|ONE) \(t=[\d.]+s\)\.?$'
    # mmpretrain's backbones of timm, from MMEngine's handler or from ScreenHandler
    r'|[\d/]+ [\d:]+ (?:- mmengine - INFO -)? ?backbone out_\w+: '
)


class QuietStream:
    """Write text to a stream, except for lines that match :data:`NOISE`.

    Args:
        stream (TextIO): Stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._line = ''

    def write(self, text: str) -> int:
        """Write the complete lines. An incomplete line is kept until it ends or is flushed."""
        *lines, self._line = (self._line + text).split('\n')
        for line in lines:
            if not NOISE.match(line):
                self.stream.write(f'{line}\n')
        return len(text)

    def flush(self) -> None:
        """Write the incomplete line."""
        if self._line and not NOISE.match(self._line):
            self.stream.write(self._line)
            self._line = ''
        self.stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


@contextmanager
def quiet_output() -> Iterator[None]:
    """Drop messages of dependencies that match :data:`NOISE` within the block."""
    stream = QuietStream(sys.stdout)
    try:
        with redirect_stdout(stream), warnings.catch_warnings():
            warnings.filterwarnings('ignore', NOISE.pattern, UserWarning)
            # of modules that are not compiled to bytecode yet, with Python 3.12 and later
            warnings.filterwarnings('ignore', 'invalid escape sequence', SyntaxWarning)
            yield
    finally:
        stream.flush()
