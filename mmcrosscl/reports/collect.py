"""Everything that a report shows of a work dir, read without running any code in it."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from mmcrosscl.errors import InputError
from mmcrosscl.visualization import read_scalars

from .configs import find_config, is_pretraining, read_config_file
from .curves import Curve, read_curves
from .logs import Session, read_session
from .similarity import SimilarityResults, find_similarities, read_similarity

Result = TypeVar('Result')
# files of weights
WEIGHTS = ('.pth', '.safetensors')
# files in a work dir that are not logs of another framework
OWN = ('run.json', 'broken_images.txt', 'similarity.json')
# time since the last change of the logs after which a run counts as stopped
STALE = timedelta(minutes=10)
IMAGES = re.compile(r'(\d[\d,]*) images per iteration')
EPOCHS = re.compile(r'(\d[\d,]*) epochs? of (\d[\d,]*) iterations?')


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights.

    Attributes:
        path: The file.
        size: Size in bytes.
        saved: Time of the last change.
        newest: Whether it is the training checkpoint that was saved last.
    """

    path: Path
    size: int
    saved: datetime
    newest: bool


@dataclass
class Run:
    """Contents of a work dir.

    Attributes:
        work_dir: The work dir, as given.
        config_file: Complete config of the run, or None.
        config: Its settings by dotted name.
        sessions: Starts of the training process, in the order of time.
        curves: Logged scalars.
        checkpoints: Files of weights, in the order of time.
        broken_images: Path and reason of each unreadable image.
        similarities: Results of `mmcrosscl similarity`.
        notes: What cannot be shown, and why, one sentence each.
        changed: Time of the last change of the logs, or None.
    """

    work_dir: Path
    config_file: Path | None = None
    config: dict[str, object] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    broken_images: list[tuple[str, str]] = field(default_factory=list)
    similarities: list[SimilarityResults] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    changed: datetime | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (
            self.config_file or self.sessions or self.curves or self.checkpoints
            or self.broken_images or self.similarities
        )  # fmt: skip

    @property
    def last_session(self) -> Session | None:
        """The last session that trained, or None."""
        return next((s for s in reversed(self.sessions) if s.trains), None)

    @property
    def summary(self) -> dict[str, str]:
        """Rows of the last summary in the logs."""
        return next((s.summary for s in reversed(self.sessions) if s.summary), {})

    @property
    def iteration(self) -> int:
        """Last iteration of the last session; 0 if nothing was trained."""
        logged = next((s.iteration for s in reversed(self.sessions) if s.iteration), 0)
        return logged or max((int(c.steps[-1]) for c in self.curves if len(c.steps)), default=0)

    @property
    def total(self) -> int | None:
        """Number of iterations of the complete training, or None if it is unknown."""
        known = next((s.total for s in reversed(self.sessions) if s.total), None)
        if known is not None:
            return known
        if found := EPOCHS.search(self.summary.get('schedule', '')):
            return _number(found[1]) * _number(found[2])
        length = next((s.epoch_length for s in reversed(self.sessions) if s.epoch_length), None)
        epochs, iterations = (self.config.get(f'train_cfg.max_{x}') for x in ('epochs', 'iters'))
        if isinstance(epochs, int) and length:
            return epochs * length
        return iterations if isinstance(iterations, int) else None

    @property
    def training_time(self) -> timedelta:
        """Time from the first to the last record, summed over the sessions."""
        times = ((s.started, s.ended) for s in self.sessions)
        return sum((ended - started for started, ended in times if started and ended), timedelta())

    @property
    def newest(self) -> Checkpoint | None:
        """The training checkpoint that was saved last."""
        return next((c for c in self.checkpoints if c.newest), None)

    @property
    def pretraining(self) -> bool:
        """Whether the run pre-trains, and does not fine-tune."""
        return is_pretraining(self.config) if self.config else 'CrossCL' in str(self.summary)

    def state(self, now: datetime) -> str:
        """Return 'finished', 'preempted', 'in progress', 'stopped', or 'not started'.

        Args:
            now (datetime): Time of the report, in local time.
        """
        done, total = self.iteration, self.total
        # The last iterations are not logged if the interval of the log does not divide the length.
        final = {f'iter_{total}', f'epoch_{self.config.get("train_cfg.max_epochs")}'}
        if total and done >= total or final & {c.path.stem for c in self.checkpoints}:
            return 'finished'
        if self.last_session is not None and self.last_session.preempted_after is not None:
            return 'preempted'
        if self.changed is not None and now - self.changed < STALE:
            return 'in progress'
        return 'stopped' if done else 'not started'


def collect(work_dir: str | Path, points: int) -> Run:
    """Read the contents of a work dir, which may still be written.

    Args:
        work_dir (str | Path): Work dir of a run.
        points (int): Maximum number of points of a curve.

    Returns:
        Run: The contents. What cannot be read is a note.
    """
    run = Run(Path(work_dir))
    if not run.work_dir.is_dir():
        run.notes.append(
            f'{work_dir} is not a folder, so it is not shown; pass the work dir of a run.'
        )
        return run
    logs = sorted(run.work_dir.glob('*/*.log'))
    run.changed = _attempt(run, 'logs in', run.work_dir, _last_change)
    run.config_file = _attempt(run, 'config', run.work_dir, find_config)
    if run.config_file is not None:
        run.config = _attempt(run, 'config', run.config_file, read_config_file) or {}
    for log in logs:
        session = _attempt(run, 'log', log, read_session)
        if session is not None and session.started is None:
            run.notes.append(f'{log} is not a log of MMEngine, so it is not shown.')
        elif session is not None:
            run.sessions.append(session)
    run.checkpoints = _attempt(run, 'list of checkpoints', run.work_dir, _checkpoints) or []
    broken = run.work_dir / 'broken_images.txt'
    if broken.exists():
        run.broken_images = _attempt(run, 'list', broken, _broken_images) or []
    for path in find_similarities(run.work_dir):
        if results := _attempt(run, 'file', path, read_similarity):
            run.similarities.append(results)
    _read_curves(run, points)
    return run


def images_per_iteration(run: Run) -> int | None:
    """Return the number of images in a batch of all processes, or None if it is unknown."""
    if found := IMAGES.search(run.summary.get('schedule', '')):
        return _number(found[1])
    batch = run.config.get('train_dataloader.batch_size')
    environment = run.last_session.environment if run.last_session else {}
    # MMEngine logs the number of processes under this name
    processes = environment.get('GPU number', '')
    return batch * int(processes) if isinstance(batch, int) and processes.isdecimal() else None


def _read_curves(run: Run, points: int) -> None:
    try:
        scalars = read_scalars(run.work_dir)
    except (InputError, OSError) as error:
        run.notes.append(f'Curves are not shown: {error}.')
        if others := _attempt(run, 'folder', run.work_dir, _other_logs):
            run.notes.append(
                f'{", ".join(others[:5])} in {run.work_dir} may be logs of another framework. '
                'Only logs of MMEngine are shown (*/vis_data/scalars.json).'
            )
        return
    if scalars.foreign:
        run.notes.append(
            f'{scalars.foreign:,} lines of the scalars in {run.work_dir} have no step, so they are '
            'not shown; MMEngine did not write them.'
        )
    run.curves = read_curves(scalars, points, images_per_iteration(run))


def _attempt(run: Run, what: str, path: Path, read: Callable[[Path], Result]) -> Result | None:
    """Return the result of a reader, or add a note and return None."""
    try:
        return read(path)
    # a run may delete a file at any time, and files may have any contents
    except (OSError, ValueError) as error:
        run.notes.append(f'The {what} {path} cannot be read, so it is not shown: {error}.')
        return None


def _last_change(work_dir: Path) -> datetime | None:
    logs = [*work_dir.glob('*/*.log'), *work_dir.glob('*/vis_data/scalars.json')]
    return max((_changed(path.stat()) for path in logs), default=None)


def _changed(stat: os.stat_result) -> datetime:
    return datetime.fromtimestamp(stat.st_mtime)


def _other_logs(work_dir: Path) -> list[str]:
    """Return the names of files that another framework may have logged to."""
    return sorted(
        path.name for path in work_dir.iterdir()
        if path.suffix in ('.log', '.json', '.jsonl', '.txt', '.csv') and path.name not in OWN
    )  # fmt: skip


def _checkpoints(work_dir: Path) -> list[Checkpoint]:
    files = [(path, path.stat()) for path in work_dir.iterdir() if path.suffix in WEIGHTS]
    files.sort(key=lambda item: (item[1].st_mtime_ns, item[0].name))
    note = work_dir / 'last_checkpoint'
    last = Path(note.read_text(errors='replace').strip()).name if note.is_file() else None
    names = [path.name for path, _ in files]
    if last not in names:
        training = [name for name in names if re.match(r'(epoch|iter)_\d+', name)]
        last = training[-1] if training else None
    return [
        Checkpoint(path, stat.st_size, _changed(stat), path.name == last) for path, stat in files
    ]


def _broken_images(path: Path) -> list[tuple[str, str]]:
    # the list separates lines with line feeds only, and names may contain other separators
    lines = path.read_text(errors='replace').split('\n')
    return [(name, reason) for name, _, reason in (x.partition('\t') for x in lines) if name]


def _number(text: str) -> int:
    return int(text.replace(',', ''))
