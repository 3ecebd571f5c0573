"""Text logs of a run: the machine, and when and why the run started and ended."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

# bytes of a log that are searched at once
CHUNK = 1 << 24
# bytes at the start of a log that contain the environment, and at its end that contain an iteration
HEAD, TAIL = 1 << 18, 1 << 16
DATE = '%Y/%m/%d %H:%M:%S'

RECORD = re.compile(
    rb' - mmengine - (?:WARNING - ([^\n]*)'
    rb'|INFO - Training starts\.\n((?:  [^\n]*\n)*)'
    rb'|INFO - resumed epoch: \d+, iter: (\d+))'
)
STAMP = re.compile(rb'^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - mmengine - ', re.MULTILINE)
ENVIRONMENT = re.compile(
    r'\nSystem environment:\n(.*?)\nRuntime environment:\n(.*?)\n-----', re.DOTALL
)
SETTING = re.compile(r'^    ([^\s:][^:\n]*): (.*)$', re.MULTILINE)
BY_ITERATION = re.compile(rb'Iter\(train\)\s+\[ *(\d+)/ *(\d+)\]')
BY_EPOCH = re.compile(rb'Epoch\(train\)\s+\[ *(\d+)\]\[ *(\d+)/ *(\d+)\]')
NON_FINITE = re.compile(r'NaN/Inf loss or gradient in iteration (\d+)')
PREEMPTED = re.compile(r'Preempted: saved .* after iteration (\d+)')
# several kilobytes of compiler flags
TOO_LONG = 'PyTorch compiling details'


@dataclass(frozen=True)
class Session:
    """One start of the training process, which ends when the process ends.

    Attributes:
        log: The log file.
        started: Time of the first record; None if the file is not a log of MMEngine.
        ended: Time of the last record.
        environment: Machine, versions and seed.
        summary: Rows of the summary that :class:`ProgressHook` logs, such as ``data``; empty if
            training has not started, or the runner is another one.
        resumed_after: Iteration of the checkpoint that the session resumed from; 0 otherwise.
        iteration: Last iteration in the log, counted from 1; 0 if there is none.
        total: Number of iterations of the training, if the log has it.
        epoch_length: Number of iterations of an epoch; None for training by iteration.
        preempted_after: Iteration after which the session was preempted; None if it was not.
        non_finite: Iterations whose update was skipped because of NaN/Inf.
    """

    log: Path
    started: datetime | None
    ended: datetime | None
    environment: dict[str, str] = field(default_factory=dict)
    summary: dict[str, str] = field(default_factory=dict)
    resumed_after: int = 0
    iteration: int = 0
    total: int | None = None
    epoch_length: int | None = None
    preempted_after: int | None = None
    non_finite: tuple[int, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether the session trained, and did not only evaluate or fail before."""
        return bool(self.summary or self.iteration)

    @property
    def beginning(self) -> str:
        """Source of the weights."""
        if not self.trains:
            return 'no training'
        if self.resumed_after:
            return f'resumed after iteration {self.resumed_after:,}'
        return self.summary.get('start', 'a new training')


def read_session(log: Path) -> Session:
    """Read the text log of a session, which may still be written.

    Args:
        log (Path): ``<timestamp>/<timestamp>.log`` in a work dir.

    Raises:
        OSError: If the file cannot be read.
    """
    with log.open('rb') as file:
        head = file.read(HEAD)
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        tail = file.read()
    first, stamps = STAMP.search(head), STAMP.findall(tail)
    started = _date(first[1]) if first else None
    summary: dict[str, str] = {}
    resumed, non_finite = 0, []
    preempted: int | None = None
    for warning, block, iteration in _records(log):
        if block:
            rows = (line.strip().partition('  ') for line in block.splitlines())
            summary = {name: value.strip() for name, _, value in rows}
        elif iteration:
            resumed = int(iteration)
        elif found := NON_FINITE.match(warning):
            non_finite.append(int(found[1]))
        elif found := PREEMPTED.match(warning):
            preempted = int(found[1])
    last, total, length = _progress(tail)
    return Session(
        log=log,
        started=started,
        ended=(_date(stamps[-1]) if stamps else None) or started,
        environment=_environment(head.decode(errors='replace')),
        summary=summary,
        resumed_after=resumed,
        iteration=max(last, resumed, preempted or 0),
        total=total,
        epoch_length=length,
        preempted_after=preempted,
        non_finite=tuple(non_finite),
    )


def _records(log: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the text of warnings, of summaries and of the iterations of resumes."""
    with log.open('rb') as file:
        while chunk := file.read(CHUNK):
            chunk += file.readline()
            for match in RECORD.finditer(chunk):
                warning, block, iteration = (
                    (group or b'').decode(errors='replace') for group in match.groups()
                )
                yield warning, block, iteration


def _environment(head: str) -> dict[str, str]:
    found = ENVIRONMENT.search(head)
    settings = SETTING.findall('\n'.join(found.groups())) if found else ()
    return {name: value for name, value in settings if name != TOO_LONG}


def _progress(tail: bytes) -> tuple[int, int | None, int | None]:
    """Return the last iteration, and the numbers of all iterations and of those of an epoch."""
    if found := BY_ITERATION.findall(tail):
        iteration, total = map(int, found[-1])
        return iteration, total, None
    if found := BY_EPOCH.findall(tail):
        epoch, iteration, length = map(int, found[-1])
        return (epoch - 1) * length + iteration, None, length
    return 0, None, None


def _date(text: bytes) -> datetime | None:
    try:
        return datetime.strptime(text.decode(), DATE)
    except ValueError:
        return None
