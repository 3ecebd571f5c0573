"""Table, plot and page of a study, from its results file."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.errors import InputError
from mmcrosscl.reports import picture, render_template

from .plan import FINAL
from .statistics import Difference, Mean, compare, mean_with_interval
from .study import Study

RESULTS = 'results.json'


class Results:
    """Results of a study that may still be running.

    Attributes:
        study (Study): Settings of the study.
        jobs (list[dict]): Results of the jobs that are done.
        expected (float | None): Seconds that the study was expected to take.

    Args:
        contents (Mapping): Contents of the results file.
    """

    def __init__(self, contents: Mapping) -> None:
        self.study = Study.from_json(json.dumps(contents['study']))
        self.jobs = list(contents['jobs'])
        self.expected = contents.get('expected')
        self.final = [job for job in self.jobs if job['kind'] == FINAL]

    @property
    def arms(self) -> list[str]:
        """Names of the arms."""
        return [arm.name for arm in self.study.plan.arms]

    @property
    def took(self) -> float:
        """Sum of the seconds of all jobs."""
        return sum(job['seconds'] for job in self.jobs)

    def scores(self, metric: str = 'ap') -> dict[tuple[str, int], dict[int, float]]:
        """Return a metric on the test set, by (arm, number of labels) and by seed."""
        found: dict[tuple[str, int], dict[int, float]] = {}
        for arm in self.arms:
            for job in self.final:
                if job['arm'] == arm:
                    found.setdefault((arm, job['labels']), {})[job['seed']] = job[metric]
        return found

    def rows(self) -> list[tuple[int, str, Mean, Mean, str, int]]:
        """Return the number of labels, arm, AP, AP50, learning rate and number of seeds per row."""
        ap, ap50 = self.scores(), self.scores('ap50')
        return [
            (labels, arm, mean_with_interval(list(ap[arm, labels].values())),
             mean_with_interval(list(ap50[arm, labels].values())),
             self._rate(arm, labels), len(ap[arm, labels]))
            for labels in self.study.labels
            for arm in self.arms
            if (arm, labels) in ap
        ]  # fmt: skip

    def differences(self) -> list[Difference]:
        """Return the paired differences of all pairs of arms."""
        return [each for labels in self.study.labels for each in compare(self.scores(), labels)]

    def notes(self) -> list[str]:
        """Return sentences about what limits the results."""
        notes = []
        total = len(list(self.study.plan.jobs()))
        if len(self.jobs) < total:
            notes.append(f'The study is not finished: {len(self.jobs)} of {total} jobs are done.')
        if self.study.seeds < 3:
            notes.append('Intervals of fewer than three seeds are very wide or do not exist.')
        if diverged := [job for job in self.jobs if job.get('diverged')]:
            # the random start has two lengths per rate
            each = dict.fromkeys(
                f'{job["arm"]} with {job["labels"]} at {job["rate"]:g}' for job in diverged
            )
            found = '; '.join(each)
            notes.append(
                'Fine-tuning ended with NaN/Inf for these arms, numbers of labels and learning '
                f'rates, which count as an AP of 0: {found}.'
            )
        edges: dict[str, set[int]] = {}
        for job in self.final if len(self.study.rates) > 1 else ():
            if job['rate'] in (min(self.study.rates), max(self.study.rates)):
                edges.setdefault(job['arm'], set()).add(job['labels'])
        if edges:
            found = '; '.join(
                f'{arm} with {", ".join(map(str, sorted(labels)))}' for arm, labels in edges.items()
            )
            notes.append(
                'The chosen learning rate is at the edge of the grid, so a rate beyond it may be '
                f'better, for these arms and numbers of labels: {found}. To extend the study, run '
                'the complete command with more --rates.'
            )
        return notes

    def _rate(self, arm: str, labels: int) -> str:
        job = next(j for j in self.final if j['arm'] == arm and j['labels'] == labels)
        return f'{job["rate"]:.3g}' + (f', {job["length"]}× longer' if job['length'] > 1 else '')


def read_results_file(path: str | Path) -> Results:
    """Read a results file.

    Raises:
        InputError: If the file does not exist or is not a results file of a study.
    """
    try:
        return Results(json.loads(Path(path).read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{path} is not a results file of a study ({error!r}); pass the results.json of one'
        ) from error


def publish(results: Results, folder: str | Path) -> list[Path]:
    """Write ``results.md``, ``ap.png`` and ``report.html``.

    Args:
        results (Results): Results of a study.
        folder (str | Path): Folder to write to.

    Returns:
        list[Path]: The files.
    """
    folder = Path(folder)
    table, plot, page = (folder / name for name in ('results.md', 'ap.png', 'report.html'))
    text = markdown(results)
    atomic_write(table, lambda path: path.write_text(text))
    figure = plot_scores(results)
    atomic_write(plot, lambda path: figure.savefig(path, format='png', dpi=150))
    html = render(results, figure)
    atomic_write(page, lambda path: path.write_text(html))
    return [table, plot, page]


def markdown(results: Results) -> str:
    """Return the tables of the APs and of the comparisons in Markdown."""
    lines = [
        'Box AP and AP50 on the test set in percent, mean over seeds with its 95 % interval.',
        '',
        '| labels | arm | AP | AP50 | learning rate | seeds |',
        '|---|---|---|---|---|---|',
    ]
    for labels, arm, ap, ap50, rate, seeds in results.rows():
        cells = [labels, arm, format_mean(ap), format_mean(ap50), rate, seeds]
        lines.append(f'| {" | ".join(map(str, cells))} |')
    if differences := results.differences():
        lines += [
            '',
            'Differences of AP, paired by seed, with the verdict on the first arm:',
            '',
            '| labels | first | second | difference | verdict |',
            '|---|---|---|---|---|',
        ]
    for each in differences:
        cells = [each.labels, each.first, each.second, format_mean(each.mean, '+'), each.verdict]
        lines.append(f'| {" | ".join(map(str, cells))} |')
    lines += ['', *(f'- {note}' for note in results.notes())]
    return '\n'.join(lines).rstrip() + '\n'


def format_mean(mean: Mean, sign: str = '') -> str:
    """Format a mean with its interval, such as '5.2 [4.8, 5.6]'."""
    # z: no minus sign if the mean is rounded to 0; the sign of a bound decides the verdict
    value = f'{mean.value:{sign}z.1f}'
    if math.isnan(mean.low):
        return value
    return f'{value} [{mean.low:{sign}.1f}, {mean.high:{sign}.1f}]'


def plot_scores(results: Results) -> Figure:
    """Plot the AP of each arm against the number of labels, with intervals."""
    figure = Figure(figsize=(7, 4.2), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    scores = results.scores()
    for index, arm in enumerate(results.arms):
        labels = [count for count in results.study.labels if (arm, count) in scores]
        if not labels:
            continue
        means = [mean_with_interval(list(scores[arm, count].values())) for count in labels]
        values = np.array([mean.value for mean in means])
        spread = np.array([[m.value - m.low for m in means], [m.high - m.value for m in means]])
        axes.errorbar(
            # side by side, so that intervals do not hide each other
            np.array(labels) * 1.02 ** (index - (len(results.arms) - 1) / 2),
            values,
            None if np.isnan(spread).any() else spread,
            marker='o',
            capsize=3,
            label=arm,
        )
    axes.set_xscale('log')
    axes.set_xlim(min(results.study.labels) / 1.5, max(results.study.labels) * 1.5)
    axes.set_xticks(results.study.labels, [f'{count:,}' for count in results.study.labels])
    axes.minorticks_off()
    axes.set_xlabel('labeled images')
    axes.set_ylabel('box AP (%)')
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc='outside right center', title='arm')
    return figure


def render(results: Results, figure: Figure) -> str:
    """Return the page of a study in HTML, without scripts and without network access."""
    canvas = cast(FigureCanvasAgg, figure.canvas)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return render_template(
        'study.html',
        dict(mean=format_mean),
        results=results,
        settings=_settings(results),
        plot=picture(pixels, 'Box AP against the number of labeled images'),
    )


def _settings(results: Results) -> Sequence[tuple[str, str]]:
    study = results.study
    hours = f'{results.took / 3600:.1f} hours'
    if results.expected:
        hours += f' (expected: {results.expected / 3600:.1f})'
    return [
        ('detector', study.detector),
        ('unlabeled images', study.unlabeled),
        ('labeled images', study.train),
        ('test images', study.test),
        ('pre-training', f'{study.pretrain_iters:,} iterations of {study.pretrain_batch} images'),
        ('fine-tuning', f'{study.fine_tune_iters:,} iterations of {study.fine_tune_batch} images'),
        ('learning rates', ', '.join(f'{rate:.3g}' for rate in study.rates)),
        ('seeds', str(study.seeds)),
        ('time', hours),
    ]
