"""Writing of a report: collects the runs, draws sample views, and renders the page."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.engine import read_config
from mmcrosscl.errors import InputError, sentence

from .collect import Run, collect
from .configs import PUBLISHED, flatten
from .page import Report, render_page, run_names
from .pictures import Picture, picture

# points of a curve, and of one curve in each run of a page, which limit the size of the page
MAX_POINTS, MAX_POINTS_OF_RUNS = 1500, 9000


def write_report(work_dirs: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write a page about one or more runs, which may still be training.

    Args:
        work_dirs (Sequence[str | Path]): Work dirs of the runs. A folder that is named twice is
            shown once.
        out (str | Path, optional): File to write. Defaults to None (``report.html`` in the first
            work dir with something to show).

    Returns:
        Path: The file.

    Raises:
        InputError: If no work dir contains anything to show, or the file cannot be written.
    """
    notes, runs = [], []
    unique: dict[Path, Path] = {}
    for path in map(Path, work_dirs):
        unique.setdefault(path.resolve(), path)
    folders = list(unique.values())
    if len(folders) < len(work_dirs):
        notes.append('A work dir that is named more than once is shown once.')
    points = min(MAX_POINTS, max(100, MAX_POINTS_OF_RUNS // len(folders)))
    for folder in folders:
        run = collect(folder, points)
        notes += run.notes
        if not run.empty:
            runs.append(run)
        elif folder.is_dir():
            notes.append(f'{folder} contains nothing to show.')
    if not runs:
        raise InputError(
            f'{", ".join(map(str, folders))}: there is no log, config or checkpoint of a run; pass '
            'the work dir of a run'
        )
    views: dict[Path, Picture] = {}
    pictures: dict[Path, list[Picture]] = {}
    for name, run in zip(run_names([run.work_dir for run in runs]), runs):
        if drawn := _sample_views(run, name, notes):
            views[run.work_dir] = drawn
        pictures |= _pictures(run, notes)
    out = runs[0].work_dir / 'report.html' if out is None else Path(out)
    published = flatten(read_config(PUBLISHED).to_dict())
    page = render_page(Report(runs, published, datetime.now(), views, pictures, notes))
    atomic_write(out, lambda path: path.write_text(page, encoding='utf-8'))
    return out


def _sample_views(run: Run, name: str, notes: list[str]) -> Picture | None:
    """Draw views of the training images of a run, or add a note and return None."""
    if run.config_file is None or not run.pretraining:
        return None
    # The user trusts the config in the work dir, as for `--resume`. It may need images and packages
    # that this machine does not have, and may raise any exception.
    try:
        from mmcrosscl.visualization import draw_views

        return picture(draw_views(read_config(str(run.config_file))), f'Views of {name}')
    except (Exception, SystemExit) as error:
        reason = sentence(error) if str(error).strip() else repr(error)
        notes.append(f'Sample views of {name} are not shown: {reason.rstrip(".")}.')
        return None


def _pictures(run: Run, notes: list[str]) -> dict[Path, list[Picture]]:
    pictures: dict[Path, list[Picture]] = {}
    for results in run.similarities:
        pictures[results.path] = []
        for path in results.pictures:
            try:
                pictures[results.path].append(picture(path, path.stem))
            except (OSError, ValueError) as error:
                notes.append(f'The picture {path} cannot be read, so it is not shown: {error}.')
    return pictures
