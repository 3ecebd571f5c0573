"""Fixture that runs a command in the test process."""

import logging
from dataclasses import dataclass

import pytest

from mmcrosscl.cli import main


@dataclass
class Done:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """Last line of stderr."""
        return self.err.strip().splitlines()[-1]


@pytest.fixture
def command(capsys, monkeypatch):
    """Return a function that runs `mmcrosscl` in this process, which is faster than a new one."""
    # MMEngine's loggers of earlier tests write to streams that are closed
    monkeypatch.setattr(logging, 'raiseExceptions', False)
    # the command sets this variable; monkeypatch restores it after the test
    monkeypatch.setenv('LOCAL_RANK', '0')

    def command(*words) -> Done:
        capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        # argparse exits on usage errors
        except SystemExit as exit_:
            status = exit_.code
        output = capsys.readouterr()
        return Done(status, output.out, output.err)

    return command
