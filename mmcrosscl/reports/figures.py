"""Figures of the page: which curves they contain, as data for plotly.js and as text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from .collect import Run
from .curves import Curve, Plot

# number of colors of the style sheet
COLORS = 8
# digits of the points, which are drawn a few hundred pixels high
DIGITS = 5


@dataclass(frozen=True)
class Series:
    """A curve in a figure.

    Attributes:
        label: Name of the term, or of the run if the page has several.
        run: Number of the run.
        color: Number of the color in the style sheet.
        curve: The curve.
    """

    label: str
    run: int
    color: int
    curve: Curve


@dataclass(frozen=True)
class Figure:
    """A figure with its curves.

    Attributes:
        title: Title.
        plot: The plot of the curves.
        series: The curves.
    """

    title: str
    plot: Plot
    series: list[Series]

    @property
    def description(self) -> str:
        """Text for readers who do not see the plot."""
        unit = f' ({self.plot.unit})' if self.plot.unit else ''
        names = ', '.join(series.label for series in self.series)
        return (
            f'Line plot of {self.title}{unit} over the iterations: {names}. The table after the '
            'plot contains the values.'
        )

    @property
    def wide(self) -> bool:
        """Whether the figure has the width of the page."""
        runs = {series.run for series in self.series}
        return self.plot.order == 0 or len(runs) < len(self.series)

    @property
    def rows(self) -> list[tuple[Series, list[str]]]:
        """Curves, and their first and last value, minimum and maximum as text."""
        curves = [series.curve for series in self.series]
        values = [x for c in curves for x in (c.first, c.last, c.lowest, c.highest)]
        cells = iter(format_numbers(values))
        return [(series, list(islice(cells, 4))) for series in self.series]

    @property
    def notes(self) -> list[str]:
        """What the reader must know about the points, one sentence each."""
        notes = []
        thinned = [x.curve for x in self.series if x.curve.logged > len(x.curve.steps)]
        if thinned:
            most = max(curve.logged for curve in thinned)
            notes.append(
                f'Of up to {most:,} logged values, the lowest and the highest of each of several '
                'hundred intervals are drawn.'
            )
        for series in self.series:
            if count := series.curve.non_finite:
                logged = series.curve.logged
                notes.append(f'{series.label}: {count:,} of {logged:,} values are NaN or Inf.')
        if any(series.curve.interval is not None for series in self.series):
            notes.append('Bands are 95 % intervals.')
        return notes


def build_figures(runs: Sequence[Run], names: Sequence[str]) -> list[Figure]:
    """Return the figures of a page.

    The terms of a single run share a figure and differ by color. Several runs have one figure per
    term, in which the runs differ by color.

    Args:
        runs (Sequence[Run]): The runs.
        names (Sequence[str]): Name of each run.
    """
    figures: dict[tuple[Plot, str | None], list[Series]] = {}
    several = len(runs) > 1
    for number, run in enumerate(runs):
        for curve in run.curves:
            series = figures.setdefault((curve.plot, curve.label if several else None), [])
            color = number if several else len(series)
            label = names[number] if several else curve.label
            series.append(Series(label, number, color % COLORS, curve))
    terms = [plot for plot, _ in figures]
    return [
        Figure(_title(plot, term if terms.count(plot) > 1 else None), plot, series)
        for (plot, term), series in sorted(figures.items(), key=lambda item: item[0][0].order)
    ]


def _title(plot: Plot, term: str | None) -> str:
    return plot.title if term is None else f'{plot.title.removesuffix(" of each term")}: {term}'


def plot_data(figures: Sequence[Figure], runs: Sequence[Run]) -> dict:
    """Return the data of the figures for the script of the page, without NaN and Inf.

    Args:
        figures (Sequence[Figure]): See :func:`build_figures`.
        runs (Sequence[Run]): The runs.
    """
    resumes = sorted({s.resumed_after for s in runs[0].sessions} - {0}) if len(runs) == 1 else []
    return dict(
        resumes=resumes,
        figures=[
            dict(
                series=[
                    dict(
                        label=series.label,
                        color=series.color,
                        x=series.curve.steps.tolist(),
                        y=_points(series.curve.values),
                        interval=None
                        if series.curve.interval is None
                        else [_points(bound) for bound in series.curve.interval],
                    )
                    for series in figure.series
                ],
            )
            for figure in figures
        ],
    )


def format_numbers(values: Sequence[float], digits: int = 4) -> list[str]:
    """Format values with the same number of decimal places.

    Args:
        values (Sequence[float]): Values, which may be NaN/Inf.
        digits (int): Significant digits of the largest value. Defaults to 4.
    """
    sizes = [abs(x) for x in values if math.isfinite(x) and x]
    largest = math.floor(math.log10(max(sizes))) if sizes else 0
    if not -4 <= largest <= 8:
        return [_special(x) or f'{x:.2e}'.replace('-', '−') for x in values]
    places = max(digits - 1 - largest, 0)
    texts = [_special(x) or f'{x:,.{places}f}'.replace('-', '−') for x in values]
    decimals = [text.partition('.')[2] for text in texts]
    needed = max((len(text.rstrip('0')) for text in decimals), default=0)
    drop = places - needed + (needed == 0 and places > 0)
    return [text[: len(text) - drop] if '.' in text and drop else text for text in texts]


def number(value: float) -> str:
    """Format a value with up to four significant digits."""
    return format_numbers([value])[0]


def _special(value: float) -> str:
    if math.isfinite(value):
        return ''
    return 'NaN' if math.isnan(value) else 'Inf' if value > 0 else '−Inf'


def _points(values: np.ndarray) -> list[float | None]:
    return [float(f'{x:.{DIGITS}g}') if math.isfinite(x) else None for x in values.tolist()]
