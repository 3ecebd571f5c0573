"""Figure of the two views of images, with the windows that the loss compares."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import hsv_to_rgb
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from mmcrosscl.datasets.transforms import PackViews, change_view
from mmcrosscl.errors import InputError
from mmcrosscl.progress import write_line
from mmcrosscl.random_states import seeded
from mmcrosscl.structures import ViewPairSample

from .canvas import new_figure, pixels, place_axes, place_text, shorten

# sizes in inches; the last one is the distance of the frame from the view
VIEW, GAP, TITLE, HEADER, FRAME = 3.9, 0.15, 0.3, 0.35, 0.03
# largest width of an image relative to its height; wider images are drawn smaller
MAX_ASPECT = 1.6
DPI = 110
# diameter of the disk of a number, in points, and its largest size relative to its window
DISK, DISK_SHARE = 11, 0.45
# length of the thick corners of a window relative to its side: those of neighbors do not overlap
CORNER = 1 / 8
# colors of the crops in the image, and of the frames of the views
COLORS = dict(query='#0072b2', key='#d55e00')
# Steps of the hue from column to column and from row to row, in turns. The steps of the
# two-dimensional golden ratio make neighbors differ.
HUE_STEPS = (0.7549, 0.5698)
# characters of a file name in a title
NAME = 60
# images of a figure, whose height matplotlib limits
MAX_COUNT = 100


def draw_views(cfg: Config, count: int = 4, seed: int = 0) -> np.ndarray:
    """Draw the first training images of a config with their two views and region pairs.

    The figure has one row per image: the image with the outlines of its crops, the query view and
    the key view. The views have the pixels that the model receives, before the normalization. The
    paired windows have the same number and color in both views. The other windows, which the loss
    does not use, are faint.

    Args:
        cfg (Config): Config of a pre-training. The views have the size of the pipeline, also with
            :class:`~mmcrosscl.engine.MultiScaleHook`.
        count (int): Maximum number of images. Defaults to 4.
        seed (int): Seed of the sampler. With the seed of a run, the images and their random
            augmentation are those of the run's first batch. Defaults to 0.

    Returns:
        np.ndarray: (H, W, 3) uint8, RGB. If no image has a paired window, a line with the cause is
        also printed.

    Raises:
        InputError: See :func:`first_items`.
    """
    items = first_items(cfg, count, seed)
    samples = [item['data_samples'] for item in items]
    if not any(sample.paired.any() for sample in samples):
        write_line(f'warning: {_why_unpaired(samples)}')
    aspect = max(sample.image.shape[1] / sample.image.shape[0] for sample in samples)
    image_width = VIEW * min(max(aspect, 1), MAX_ASPECT)
    row_height = TITLE + VIEW + GAP
    figure = new_figure(image_width + 2 * VIEW + 4 * GAP, HEADER + len(items) * row_height, DPI)
    query_left = 2 * GAP + image_width
    columns = [
        ('image', GAP, image_width, 'black'),
        ('query view', query_left, VIEW, COLORS['query']),
        ('key view', query_left + VIEW + GAP, VIEW, COLORS['key']),
    ]
    for title, left, width, color in columns:
        place_text(figure, left + width / 2, HEADER / 2 + 0.04, title, ha='center', weight='bold',
                   fontsize=10, color=color)  # fmt: skip
    for row, (item, sample) in enumerate(zip(items, samples)):
        top = HEADER + row * row_height
        place_text(figure, GAP, top + TITLE / 2, title_of(sample), fontsize=9)
        image_axes, *view_axes = (
            place_axes(figure, left, top + TITLE, width, VIEW) for _, left, width, _ in columns
        )
        _draw_image(image_axes, sample)
        for axes, view, name in zip(view_axes, seen_views(item), COLORS):
            _draw_view(axes, view, sample, name)
    return pixels(figure)


def first_items(cfg: Config, count: int, seed: int) -> list[dict]:
    """Return the first training images of a config as the dataset packs them.

    Args:
        cfg (Config): Config of a pre-training.
        count (int): Maximum number of images.
        seed (int): Seed of the sampler.

    Returns:
        list[dict]: Results of :class:`~mmcrosscl.datasets.transforms.PackViews`. The data samples
        also have the meta information ``image``, the (H, W, 3) image before the crops.

    Raises:
        InputError: If ``count`` or ``seed`` is out of range, the dataset cannot be built or returns
            no region pairs, or several images in a row cannot be read.
    """
    if not (1 <= count <= MAX_COUNT and 0 <= seed < 2**32):
        raise InputError(
            f'count is {count} and seed is {seed}; set a count from 1 to {MAX_COUNT} and a seed '
            'from 0 to 4294967295'
        )
    with seeded(seed), DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        loader = _build_loader(cfg, seed)
        _keep_images(loader.dataset, cfg.filename)
        # the stub of torch's Dataset has no length
        dataset: Any = loader.dataset
        indices = islice(loader.sampler, min(count, len(dataset)))
        return [dataset[index] for index in indices]


def seen_views(item: dict) -> list[np.ndarray]:
    """Return the two views of an image as the model receives them, before the normalization.

    Args:
        item (dict): Result of :class:`~mmcrosscl.datasets.transforms.PackViews`.

    Returns:
        list[np.ndarray]: Query view and key view, each (S, S, 3) uint8, RGB, with all photometric
        operations, including those with ``on_device=True``.
    """
    views = item['inputs']
    plans = item['data_samples'].get('photometric', [()] * len(views))
    return [change_view(view, plan) for view, plan in zip(views, plans)]


def title_of(sample: ViewPairSample) -> str:
    """Return the file name, the number of paired windows, and what is unusual about an image."""
    name = shorten(Path(sample.img_path).name, NAME)
    parts = [f'{name} · {sample.paired.sum() or "none"} of {len(sample.paired)} windows paired']
    if sample.get('flip'):
        parts.append('views flipped')
    if skipped := sample.get('skipped_images'):
        # the random replacement of an image may be the image itself
        names = dict.fromkeys(shorten(Path(path).name, NAME) for path, _ in skipped)
        parts.append(f'replaces {", ".join(names)}, which cannot be read')
    return ' · '.join(parts)


def crops_in_image(sample: ViewPairSample) -> np.ndarray:
    """Return the crops of both views in the image before its flip.

    Args:
        sample (ViewPairSample): A sample of :func:`first_items`.

    Returns:
        np.ndarray: (2, 4); left, top, width, height of the query crop and of the key crop.
    """
    crops = np.array(sample.crops, dtype=float)
    if sample.get('flip'):
        crops[:, 0] = sample.image.shape[1] - crops[:, 0] - crops[:, 2]
    return crops


def _build_loader(cfg: Config, seed: int) -> DataLoader:
    if cfg.get('train_dataloader') is None:
        raise InputError(
            f'{cfg.filename} has no train_dataloader; pass a config of a pre-training, such as '
            'mmcrosscl::crosscl/r50_8xb32.py'
        )
    try:
        settings = {name: cfg.train_dataloader[name] for name in ('dataset', 'sampler')}
        return Runner.build_dataloader(dict(settings, batch_size=1, num_workers=0), seed=seed)
    except InputError:
        raise
    # the constructor of a dataset may raise any exception
    except Exception as error:
        raise InputError(
            f'the training dataset of {cfg.filename} cannot be built ({error}); correct '
            'train_dataloader, or pass a config of a pre-training'
        ) from error


def _keep_images(dataset: Dataset, config: str) -> None:
    """Make the pipelines of a dataset add the image before the crops to the data sample."""
    pipelines = list(_pipelines(dataset))
    packing = [[t for t in transforms if isinstance(t, PackViews)] for transforms in pipelines]
    if not packing or not all(packing):
        raise InputError(
            f'the training dataset of {config} does not return views, because its pipeline has no '
            'mmcrosscl.PackViews; pass a config of a pre-training'
        )
    for transform in chain(*packing):
        transform.meta_keys += ('image', 'img_path', 'crops', 'flip')
    for transforms in pipelines:
        transforms[:] = [step for transform in transforms for step in (_keep_image, transform)]


def _pipelines(dataset: Dataset) -> Iterator[list]:
    """Yield the transforms of a dataset, or of the datasets that it wraps."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', None)
    if transforms is not None:
        yield transforms
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())]:
        if inner is not None:
            yield from _pipelines(inner)


def _keep_image(results: dict) -> dict:
    # after the crops, 'img' is a list of views
    if isinstance(results.get('img'), np.ndarray):
        results['image'] = results['img']
    return results


def _why_unpaired(samples: Sequence[ViewPairSample]) -> str:
    if not any(len(sample.paired) for sample in samples):
        return (
            'no window lies within the query views, so regions are not trained; reduce the window '
            'of RegionPairs'
        )
    return (
        f'none of the {len(samples)} images has a paired window, because the windows are too large '
        'or the crops too different; reduce the window of RegionPairs, or increase '
        'crop_ratio_range of TwoCrops'
    )


def _draw_image(axes: Axes, sample: ViewPairSample) -> None:
    height, width = sample.image.shape[:2]
    axes.imshow(sample.image, extent=(0, width, height, 0))
    axes.spines[:].set_visible(False)
    for color, (left, top, *sides) in zip(COLORS.values(), crops_in_image(sample)):
        axes.add_patch(
            Rectangle(
                (left, top), *sides, fill=False, ec=color, lw=2.2, clip_on=False,
                path_effects=[withStroke(linewidth=3.6, foreground='white')],
            )
        )  # fmt: skip


def _draw_view(axes: Axes, view: np.ndarray, sample: ViewPairSample, name: str) -> None:
    size = len(view)
    axes.imshow(view, extent=(0, size, size, 0))
    axes.spines[:].set_visible(False)
    # a frame outside of the view, which does not cover windows at the edge
    edge = FRAME / VIEW
    frame = Rectangle((-edge, -edge), 1 + 2 * edge, 1 + 2 * edge, transform=axes.transAxes,
                      fill=False, ec=COLORS[name], lw=2.2, clip_on=False)  # fmt: skip
    axes.add_patch(frame)
    boxes = sample.regions(name)
    # the stubs of matplotlib do not accept arrays of vertices
    axes.add_collection(
        PolyCollection(_corners(boxes[~sample.paired]), fc='none', ec='white', lw=0.6, alpha=0.45)  # type: ignore[arg-type]
    )
    boxes = boxes[sample.paired]
    # a region has the color of its place in the grid of the query view
    colors = _grid_colors(sample.query_regions)[sample.paired]
    style: dict[str, Any] = dict(
        clip_on=False, path_effects=[withStroke(linewidth=2.2, foreground=(0, 0, 0, 0.45))]
    )
    axes.add_collection(PolyCollection(_corners(boxes), fc='none', ec=colors, lw=0.9, **style))  # type: ignore[arg-type]
    colors_of_corners = np.repeat(colors, 4, axis=0)
    axes.add_collection(
        LineCollection(_brackets(boxes), colors=colors_of_corners, lw=2, clip_on=False)  # type: ignore[arg-type]
    )
    if len(boxes):
        smallest = np.min(boxes[:, 2:] - boxes[:, :2]) * 72 * VIEW / size
        disk = min(DISK, DISK_SHARE * smallest)
        x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).T
        axes.scatter(x, y, disk**2, colors, edgecolors='black', linewidths=0.5, zorder=3)
        for number, across, down in zip(np.flatnonzero(sample.paired) + 1, x, y):
            axes.text(across, down, number, ha='center', va='center_baseline', weight='bold',
                      fontsize=0.58 * disk, zorder=4)  # fmt: skip
    axes.set(xlim=(0, size), ylim=(size, 0))


def _corners(boxes: np.ndarray) -> np.ndarray:
    """Return the corners of boxes in their order along the outline, (R, 4, 2)."""
    return boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]


def _brackets(boxes: np.ndarray) -> np.ndarray:
    """Return a line of three points around each corner of each box, (4 · R, 3, 2)."""
    corners = _corners(boxes)
    ends = [corners + CORNER * (np.roll(corners, step, axis=1) - corners) for step in (-1, 1)]
    return np.stack([ends[0], corners, ends[1]], axis=2).reshape(-1, 3, 2)


def _grid_colors(boxes: np.ndarray) -> np.ndarray:
    """Return a color per box, (R, 3), which differs from the colors of the neighbors."""
    _, columns = np.unique(boxes[:, 0], return_inverse=True)
    _, rows = np.unique(boxes[:, 1], return_inverse=True)
    hues = (columns * HUE_STEPS[0] + rows * HUE_STEPS[1]) % 1
    return hsv_to_rgb(np.stack([hues, np.full(len(hues), 0.6), np.ones(len(hues))], axis=-1))
