"""The page of a report, from the data of its runs."""

import base64
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from plotly.offline import get_plotlyjs

from .collect import Run
from .configs import PUBLISHED, differing, settings_of_training
from .figures import COLORS, Figure, build_figures, plot_data
from .pictures import Picture
from .run_view import RunView, count, format_estimate
from .similarity import Estimate, SimilarityResults
from .templates import HERE, render_template

# rows of the list of unreadable images
MAX_ROWS = 100
MISSING = object()


@dataclass(frozen=True)
class Report:
    """Contents of a page.

    Attributes:
        runs: The runs, none of which is empty.
        published: Settings of the published recipe by dotted name.
        now: Time of the report, in local time.
        views: Sample views by the work dir of the run.
        pictures: Pictures by the path of the ``similarity.json`` beside them.
        notes: What cannot be shown, and why, one sentence each.
    """

    runs: Sequence[Run]
    published: Mapping[str, object]
    now: datetime
    views: Mapping[Path, Picture] = field(default_factory=dict)
    pictures: Mapping[Path, Sequence[Picture]] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Settings:
    """Table of the settings that differ from the published recipe.

    Attributes:
        recipe: Name of the config of the recipe.
        columns: Pre-training runs with a config.
        rows: Name of a setting, and its values in the recipe and in each of these runs.
    """

    recipe: str
    columns: list[RunView]
    rows: list[tuple[str, list[object]]]


def render_page(report: Report) -> str:
    """Return the HTML of a report.

    All text is escaped. A content security policy forbids all network access, and all scripts
    except for the two of the page, which are identified by their hashes.

    Args:
        report (Report): The contents.
    """
    names = run_names([run.work_dir for run in report.runs])
    runs = [
        RunView(name, index % COLORS, run, report.now)
        for index, (name, run) in enumerate(zip(names, report.runs))
    ]
    figures = build_figures(report.runs, names)
    scripts = [get_plotlyjs(), (HERE / 'report.js').read_text()]
    return render_template(
        'report.html',
        dict(
            estimate=format_estimate,
            size=format_size,
            count=count,
            setting=format_setting,
            whisker=whisker,
        ),
        report=report,
        runs=runs,
        title=names[0] if len(runs) == 1 else count(len(runs), 'run'),
        figures=list(enumerate(figures)),
        sections=_sections(report, runs, figures),
        data=plot_data(figures, report.runs),
        scripts=scripts,
        hashes=[script_hash(script) for script in scripts],
        settings=_settings(report, runs),
        machines=_machines(report.runs),
        max_rows=MAX_ROWS,
        missing=MISSING,
    )


def run_names(work_dirs: Sequence[Path]) -> list[str]:
    """Return the name of each folder, with as many parents as distinguish it from the others."""
    parts = [Path(os.path.abspath(path)).parts for path in work_dirs]
    names = []
    for each in parts:
        count = 1
        while count < len(each) and sum(other[-count:] == each[-count:] for other in parts) > 1:
            count += 1
        names.append('/'.join(each[-count:]))
    return names


def script_hash(script: str) -> str:
    """Return the source expression of an inline script in a content security policy."""
    return f'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'


def format_size(size: int) -> str:
    """Format a number of bytes."""
    return f'{size / 1e9:.2f} GB' if size >= 1e9 else f'{size / 1e6:,.1f} MB'


def format_setting(value: object) -> str:
    """Format the value of a setting; unset settings have none."""
    return '' if value is MISSING else repr(value)


def whisker(margin: Estimate, results: SimilarityResults) -> str:
    """Return the style of a mark that shows a margin on an axis with those of all checkpoints.

    Args:
        margin (Estimate): The margin and its interval.
        results (SimilarityResults): Results that contain all margins.
    """
    bounds = [0.0, *(x for rows in results.levels.values() for row in rows for x in row.margin)]
    bounds = [x for x in bounds if math.isfinite(x)]
    start, length = min(bounds), max(bounds) - min(bounds)
    if not length or not all(map(math.isfinite, margin)):
        return ''
    places = dict(zip(('zero', 'at', 'low', 'high'), (0.0, *margin)))
    return '; '.join(f'--{k}: {100 * (x - start) / length:.2f}%' for k, x in places.items())


def _sections(report: Report, runs: Sequence[RunView], figures: Sequence[Figure]) -> dict[str, str]:
    """Return the titles of the sections that are not empty, by identifier."""
    drawn = {figure.plot.section for figure in figures}
    present = dict(
        training=('Training', 'training' in drawn),
        evaluation=('Evaluation', 'evaluation' in drawn),
        throughput=('Throughput', 'throughput' in drawn),
        similarity=('Similarity of regions', any(run.data.similarities for run in runs)),
        views=('Sample views', bool(report.views)),
        configuration=('Configuration', any(run.data.config for run in runs)),
        machine=('Machine and versions', any(run.data.sessions for run in runs)),
        sessions=('Interruptions and resumes', any(run.data.sessions for run in runs)),
        unreadable=('Unreadable images', any(run.data.broken_images for run in runs)),
        checkpoints=('Checkpoints', any(run.data.checkpoints for run in runs)),
        commands=('Commands to continue', any(run.commands for run in runs)),
    )
    return {name: title for name, (title, shown) in present.items() if shown}


def _settings(report: Report, runs: Sequence[RunView]) -> Settings:
    columns = [run for run in runs if run.data.config and run.data.pretraining]
    configs = [report.published, *(run.data.config for run in columns)]
    training = [settings_of_training(config) for config in configs]
    rows = [(n, [c.get(n, MISSING) for c in training]) for n in differing(*training)]
    return Settings(PUBLISHED, columns, rows)


def _machines(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Return the rows of the table of machines: name, and value for each run."""
    columns = []
    for run in runs:
        device = {name: x for name, x in run.summary.items() if name == 'device'}
        columns.append({**device, **(run.sessions[-1].environment if run.sessions else {})})
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, [column.get(name, '') for column in columns]) for name in names]
