"""Curves of a run: which scalar belongs to which plot, and few points that keep the spikes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmcrosscl.visualization import Scalars

TRAINING, EVALUATION, THROUGHPUT = 'training', 'evaluation', 'throughput'
# scalars that are not drawn: counters, and times that other scalars are computed from
OMITTED = re.compile('step|iter|epoch|time|data_time|base_lr|momentum')
# ends of the names of the two scalars that are an interval around a third one
LOW, HIGH = '_low', '_high'


@dataclass(frozen=True)
class Plot:
    """A figure of the page.

    Attributes:
        name: Identifier.
        section: Section of the page: 'training', 'evaluation' or 'throughput'.
        title: Title.
        unit: Unit of the values, or ''.
        logarithmic: Whether a logarithmic axis is useful.
        order: Position among the figures.
    """

    name: str
    section: str
    title: str
    unit: str
    logarithmic: bool = False
    order: int = 0


@dataclass(frozen=True)
class Curve:
    """One scalar of a run over the iterations.

    Attributes:
        plot: The figure that shows the curve.
        label: Name within the figure.
        steps: (N,) iterations of the points.
        values: (N,) values of the points; NaN/Inf where the scalar is NaN/Inf.
        interval: (2, N) lower and upper bound, or None.
        first, last, lowest, highest, middle: First and last value, and minimum, maximum and median
            of the finite values, over all logged values and not only over the points.
        logged: Number of logged values.
        non_finite: Number of logged values that are NaN/Inf.
    """

    plot: Plot
    label: str
    steps: np.ndarray
    values: np.ndarray
    interval: np.ndarray | None
    first: float
    last: float
    lowest: float
    highest: float
    middle: float
    logged: int
    non_finite: int


# pattern of the scalar, plot, and factor to the unit of the plot; the first match counts
TRAIN_PLOTS: tuple[tuple[str, Plot, float], ...] = (
    ('loss', Plot('loss', TRAINING, 'Total loss', '', True, 0), 1),
    ('.*loss.*', Plot('terms', TRAINING, 'Loss of each term', '', True, 1), 1),
    ('acc_.*', Plot('accuracy', TRAINING, 'Contrastive top-1 accuracy', '%', order=2), 1),
    ('.*acc.*', Plot('acc', TRAINING, 'Training accuracy', '%', order=3), 1),
    ('lr', Plot('lr', TRAINING, 'Learning rate', '', True, 4), 1),
    ('gradient_norm|grad_norm', Plot('norm', TRAINING, 'Gradient norm', '', True, 5), 1),
    ('paired_share', Plot('paired', TRAINING, 'Windows in both views', '%', order=6), 100),
    ('images_per_second', Plot('speed', THROUGHPUT, 'Speed', 'images/s', order=30), 1),
    ('data_wait', Plot('wait', THROUGHPUT, 'Waiting for data', '% of the time', order=31), 100),
    ('memory', Plot('memory', THROUGHPUT, 'Peak memory', 'GiB', order=32), 1 / 1024),
    ('.*', Plot('other', TRAINING, 'Other scalars', '', True, 7), 1),
)
LABELS = dict(
    loss='loss', lr='learning rate', gradient_norm='norm', grad_norm='norm',
    paired_share='paired windows', images_per_second='images/s', data_wait='data wait',
    memory='memory',
)  # fmt: skip
SIMILARITY = re.compile('similarity/(.+)_(margin|recall|same|other)')
SIMILARITY_PLOTS = {
    'margin': Plot('margin', EVALUATION, 'Similarity margin', 'cosine', order=10),
    'recall': Plot('recall', EVALUATION, 'Retrieval recall@1', '%', order=11),
    'same': Plot('same', EVALUATION, 'Similarity of the same object', 'cosine', order=12),
    'other': Plot('others', EVALUATION, 'Similarity to other objects', 'cosine', order=13),
}
PRECISION = re.compile(r'(.+/)?(\w+?)_mAP(.*)')
KINDS = dict(bbox='Box', segm='Mask')
LEVELS = re.compile(r'(p\d)_(p\d)(_one_view)?')


def read_curves(scalars: Scalars, points: int, batch: int | None = None) -> list[Curve]:
    """Return the curves of a run, in the order of the figures.

    Args:
        scalars (Scalars): Logged scalars.
        points (int): Maximum number of points of a curve.
        batch (int, optional): Number of images per iteration. With it, the images per second of
            logs without this scalar are computed.
    """
    curves = [*_train_curves(scalars, points, batch), *_evaluation_curves(scalars, points)]
    # a stable sort keeps the order of the log within a figure
    return sorted(curves, key=lambda curve: curve.plot.order)


def downsample(values: np.ndarray, points: int) -> np.ndarray:
    """Return the indices of at most ``points`` values that keep all spikes and gaps.

    The values are split into buckets of equal length. The lowest, the highest and the first NaN/Inf
    value of each bucket are kept, and the first and the last value of all.

    Args:
        values (np.ndarray): (N,) values, which may be NaN/Inf.
        points (int): Maximum number of indices, at least 5.

    Returns:
        np.ndarray: Sorted indices; all indices if N is at most ``points``.
    """
    count = len(values)
    if count <= points:
        return np.arange(count)
    finite = np.isfinite(values)
    buckets = (points - 2) // (2 if finite.all() else 3)
    edges = np.linspace(0, count, buckets + 1).astype(np.int64)
    width = int(np.diff(edges).max())
    # a shorter bucket repeats its last index
    index = np.minimum(edges[:-1, None] + np.arange(width), edges[1:, None] - 1)
    bucket, valid = values[index], finite[index]
    rows = np.arange(buckets)
    lowest = index[rows, np.where(valid, bucket, np.inf).argmin(axis=1)]
    highest = index[rows, np.where(valid, bucket, -np.inf).argmax(axis=1)]
    gaps = index[rows, valid.argmin(axis=1)][~valid.all(axis=1)]
    return np.unique(np.concatenate([[0], lowest, highest, gaps, [count - 1]]))


def term_label(name: str) -> str:
    """Return the name of a term in the figures, such as 'P4 → P3' for 'p4_p3'."""
    found = LEVELS.fullmatch(name)
    if found is None:
        return LABELS.get(name, name)
    view = ', one view' if found[3] else ''
    return f'{found[1].upper()} → {found[2].upper()}{view}'


def _train_curves(scalars: Scalars, points: int, batch: int | None) -> Iterator[Curve]:
    train = scalars.train
    names = train.names
    for name in names:
        if OMITTED.fullmatch(name):
            continue
        plot, factor = next((p, f) for pattern, p, f in TRAIN_PLOTS if re.fullmatch(pattern, name))
        label = term_label(name.removeprefix('loss_').removeprefix('acc_'))
        steps, values = train.column(name)
        yield _curve(plot, label, steps, values * factor, points)
    derived = [name for name in ('images_per_second', 'data_wait') if name not in names]
    if not derived or not {'time', 'data_time'} <= set(names):
        return
    (steps, seconds), (others, waits) = train.column('time'), train.column('data_time')
    if len(steps) != len(others):
        return
    with np.errstate(divide='ignore', invalid='ignore'):
        computed = dict(
            images_per_second=batch / seconds if batch else None,
            data_wait=np.minimum(waits / seconds, 1),
        )
    for name in derived:
        if computed[name] is not None:
            plot, factor = next((p, f) for pattern, p, f in TRAIN_PLOTS if pattern == name)
            yield _curve(plot, term_label(name), steps, computed[name] * factor, points)


def _evaluation_curves(scalars: Scalars, points: int) -> Iterator[Curve]:
    rows = scalars.evaluation
    names = dict.fromkeys(name for row in rows for name in row)
    bounds = {name + end for name in names for end in (LOW, HIGH)}
    for name in names:
        if OMITTED.fullmatch(name) or name in bounds:
            continue
        # a run that was only evaluated has no iterations
        found = [row for row in rows if _is_number(row.get(name))]
        steps = np.array([row['iter'] or row['step'] for row in found])
        plot, label, factor = _evaluation_plot(name)
        values = np.array([row[name] for row in found], float) * factor
        # COCO's AP is −1 if there is no object of this size
        values[(values < 0) & bool(PRECISION.fullmatch(name))] = np.nan
        interval = _interval(found, name)
        interval = None if interval is None else interval * factor
        if np.isfinite(values).any():
            yield _curve(plot, label, steps, values, points, interval)


def _evaluation_plot(name: str) -> tuple[Plot, str, float]:
    """Return the plot, the label and the factor of a result of an evaluation."""
    if found := SIMILARITY.fullmatch(name):
        factor = 100 if found[2] == 'recall' else 1
        return SIMILARITY_PLOTS[found[2]], term_label(found[1]), factor
    if found := PRECISION.fullmatch(name):
        title = f'{KINDS.get(found[2], found[2])} AP'
        plot = Plot(f'{found[1] or ""}{found[2]}', EVALUATION, title, '%', order=8)
        return plot, f'AP{found[3].replace("_", " ")}', 100
    prefix, separator, rest = name.partition('/')
    title = f'Evaluation: {prefix}' if separator else 'Evaluation'
    plot = Plot(title, EVALUATION, title, '', order=20)
    return plot, rest or name, 1


def _interval(rows: Sequence[Mapping], name: str) -> np.ndarray | None:
    bounds = [[row.get(name + end) for row in rows] for end in (LOW, HIGH)]
    if not any(_is_number(x) for x in bounds[0]):
        return None
    return np.array([[x if _is_number(x) else np.nan for x in bound] for bound in bounds], float)


def _curve(
    plot: Plot,
    label: str,
    steps: np.ndarray,
    values: np.ndarray,
    points: int,
    interval: np.ndarray | None = None,
) -> Curve:
    kept = downsample(values, points)
    finite = values[np.isfinite(values)]
    lowest, middle, highest = np.quantile(finite, [0, 0.5, 1]) if len(finite) else [np.nan] * 3
    return Curve(
        plot=plot,
        label=label,
        steps=steps[kept],
        values=values[kept],
        interval=None if interval is None else interval[:, kept],
        first=float(values[0]),
        last=float(values[-1]),
        lowest=float(lowest),
        highest=float(highest),
        middle=float(middle),
        logged=len(values),
        non_finite=len(values) - len(finite),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
