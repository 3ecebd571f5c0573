"""Figure that shows the boxes of several detectors side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from PIL import Image

from mmcrosscl.errors import InputError


def plot_detections(
    detectors: Mapping[str, Sequence[DetDataSample]],
    classes: Sequence[str],
    picture: str | Path,
    threshold: float = 0.3,
) -> None:
    """Plot labeled and detected boxes on the images.

    The figure has one row per image. The first column shows the labels, and each further column
    shows the boxes of one detector.

    Args:
        detectors (Mapping[str, Sequence[DetDataSample]]): Predictions of each detector, by column
            title. All detectors have the same images in the same order. Each sample has
            ``img_path``, ``gt_instances`` and ``pred_instances``, with boxes in pixels of the image
            file.
        classes (Sequence[str]): Class names, indexed by label.
        picture (str | Path): Image file to write. Its suffix sets the format, such as ``.png``.
        threshold (float): Minimum score of the boxes to draw. Defaults to 0.3.

    Raises:
        InputError: If the detectors have different images, or if there are no predictions.
    """
    paths = [[sample.img_path for sample in samples] for samples in detectors.values()]
    if not paths or any(other != paths[0] for other in paths) or not paths[0]:
        raise InputError(
            'expected predictions of all detectors on the same images, but got different images or '
            'none; run each detector on the same images in the same order'
        )
    rows, columns = len(paths[0]), 1 + len(detectors)
    figure = Figure(figsize=(3.2 * columns, 3.2 * rows), layout='constrained')
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    labels = next(iter(detectors.values()))
    for row, path in enumerate(paths[0]):
        with Image.open(path) as image:
            for axes in grid[row]:
                axes.imshow(image)
                axes.set_axis_off()
        _draw(grid[row][0], labels[row].gt_instances, classes)
        for axes, samples in zip(grid[row][1:], detectors.values()):
            found = samples[row].pred_instances
            _draw(axes, found[found.scores >= threshold], classes)
    for axes, title in zip(grid[0], ('labels', *detectors)):
        axes.set_title(title)
    figure.savefig(picture, dpi=100)


def _draw(axes: Axes, instances: InstanceData, classes: Sequence[str]) -> None:
    scores = instances.get('scores')
    for index, (left, top, right, bottom) in enumerate(instances.bboxes.tolist()):
        label = int(instances.labels[index])
        color = f'C{label % 10}'
        axes.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, ec=color, lw=2)
        )
        text = classes[label] if scores is None else f'{classes[label]} {scores[index]:.2f}'
        axes.text(left, top, text, color='white', fontsize=8, va='bottom',
                  bbox=dict(facecolor=color, edgecolor='none', pad=1))  # fmt: skip
