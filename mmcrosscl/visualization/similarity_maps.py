"""Similarity of a region to every cell of pyramid levels, as maps and as a figure."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from mmcrosscl.errors import InputError
from mmcrosscl.models.regions import build_roi_layer, region_vectors

from .canvas import new_figure, pixels, place_axes, place_text, shorten

# pooling of the published configs
ROI_LAYER = dict(type='RoIAlign', output_size=1, sampling_ratio=0, aligned=False)
# Scale of all figures, so that they can be compared. White cells are unrelated to the region.
COLORS, LIMITS = 'RdBu_r', (-1, 1)
# sizes in inches
PANEL, GAP, GROUP_GAP, MARGIN, NAME_WIDTH = 1.75, 0.08, 0.3, 0.12, 0.3
HEADER, FOOTER = 0.58, 0.6
DPI = 110
# characters of a model's name
NAME = 22
# Standard deviation of unit vectors below which a map counts as constant. Rounding in float32 is
# below it.
CONSTANT = 1e-5


def similarity_map(feature_map: Tensor, vector: Tensor) -> Tensor:
    """Cosine similarity of a vector to each cell of a feature map.

    Args:
        feature_map (Tensor): (C, H, W).
        vector (Tensor): (C,).

    Returns:
        Tensor: (H, W) with values from −1 to 1; 0 where a cell or the vector is 0.
    """
    return F.cosine_similarity(feature_map, vector[:, None, None], dim=0)


def principal_components(feature_map: Tensor) -> np.ndarray:
    """First three principal components of the cells of a feature map, as colors.

    Cells are scaled to unit length and centered. Each component is scaled to the range from 0 to 1,
    as in the figures of DINOv2 (Oquab et al., 2023, https://arxiv.org/abs/2304.07193). The sign of
    a component is that which makes its largest coefficient positive.

    Args:
        feature_map (Tensor): (C, H, W). NaN and Inf count as 0.

    Returns:
        np.ndarray: (H, W, 3) float64, from 0 to 1. A component without variance is 0.5.
    """
    channels, height, width = feature_map.shape
    cells = feature_map.detach().cpu().double().nan_to_num(0, 0, 0).reshape(channels, -1).T
    cells = F.normalize(cells, dim=1)
    left, scales, right = torch.linalg.svd(cells - cells.mean(0), full_matrices=False)
    colors = np.full((height * width, 3), 0.5)
    for component in range(min(3, len(scales))):
        if scales[component] < CONSTANT * math.sqrt(len(cells)):
            break
        direction = right[component]
        values = (left[:, component] * direction[direction.abs().argmax()].sign()).numpy()
        colors[:, component] = (values - values.min()) / np.ptp(values)
    return colors.reshape(height, width, 3)


def pool_region(feature_map: Tensor, box: Sequence[float], view_size: int) -> Tensor:
    """Pool a region from a level as the loss does.

    Args:
        feature_map (Tensor): (C, H, W).
        box (Sequence[float]): x0, y0, x1, y1 in pixels of the view.
        view_size (int): Side of the view in pixels.

    Returns:
        Tensor: (C,), unit length.
    """
    layer = build_roi_layer(ROI_LAYER, view_size / feature_map.shape[-1])
    rois = torch.tensor([[0, *box]], dtype=torch.float, device=feature_map.device)
    return region_vectors(feature_map[None].float(), rois, layer)[0]


def plot_similarity_maps(
    view: np.ndarray,
    box: Sequence[float],
    models: Mapping[str, Mapping[str, Tensor]],
) -> np.ndarray:
    """Plot the similarity of a region to all cells of a view, for one or more models.

    The figure has one row per model. Its columns are the view, the similarity maps within each
    level, those across adjacent levels in both directions, and the principal components of each
    level. In the map A → B, the region is pooled from level A as in the loss, and compared with the
    cells of level B. All maps have the same color scale, from −1 to 1.

    Args:
        view (np.ndarray): (S, S, 3) uint8, RGB.
        box (Sequence[float]): The region: x0, y0, x1, y1 in pixels of the view.
        models (Mapping[str, Mapping[str, Tensor]]): For each model, by its title, the (C, H, W) map
            of the view on each level. The widths C of levels may differ. Such levels are not
            compared.

    Returns:
        np.ndarray: (H, W, 3) uint8, RGB.

    Raises:
        InputError: If the box is empty or not within the view, or there are no maps.
    """
    size = len(view)
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size):
        raise InputError(
            f'the region {", ".join(f"{x:g}" for x in box)} (x0, y0, x1, y1) is empty or not '
            f'within the view of {size}×{size} pixels; choose a region within the view'
        )
    # the finest level first
    models = {
        name: dict(sorted(maps.items(), key=lambda item: -item[1].shape[-1]))
        for name, maps in models.items()
    }
    levels = list(dict.fromkeys(chain(*models.values())))
    if not levels:
        raise InputError('there are no feature maps to plot; pass the maps of at least one model')
    adjacent = chain(*(pairwise(maps) for maps in models.values()))
    pairs = list(dict.fromkeys(pair for a, b in adjacent for pair in ((a, b), (b, a))))
    groups = {
        'view': [('', partial(_show_view, view))],
        'similarity within a level': [
            (f'{level.upper()} → {level.upper()}', partial(_show_similarity, level, level))
            for level in levels
        ],
        'similarity across levels': [
            (f'{query.upper()} → {key.upper()}', partial(_show_similarity, query, key))
            for query, key in pairs
        ],
        'principal components': [
            (level.upper(), partial(_show_components, level)) for level in levels
        ],
    }
    groups = {title: panels for title, panels in groups.items() if panels}
    lefts = _lefts([len(panels) for panels in groups.values()])
    width = lefts[-1][-1] + PANEL + MARGIN
    rows_end = HEADER + len(models) * (PANEL + GAP)
    figure = new_figure(width, rows_end + FOOTER, DPI)
    for group, (title, panels) in zip(lefts, groups.items()):
        center = (group[0] + group[-1] + PANEL) / 2
        place_text(figure, center, 0.18, title, ha='center', fontsize=9, weight='bold')
        for left, (subtitle, _) in zip(group, panels):
            place_text(figure, left + PANEL / 2, HEADER - 0.14, subtitle, ha='center', fontsize=9)
    for row, (name, maps) in enumerate(models.items()):
        top = HEADER + row * (PANEL + GAP)
        place_text(
            figure, MARGIN + NAME_WIDTH / 2, top + PANEL / 2, shorten(name, NAME), rotation=90,
            ha='center', fontsize=8.5, weight='bold',
        )  # fmt: skip
        vectors = {level: pool_region(x, box, size) for level, x in maps.items()}
        for group, panels in zip(lefts, groups.values()):
            for left, (_, show) in zip(group, panels):
                axes = place_axes(figure, left, top, PANEL, PANEL)
                axes.set(xlim=(0, size), ylim=(size, 0), facecolor='0.85')
                axes.spines[:].set(color='0.6', linewidth=0.6)
                show(axes, maps, vectors)
                _outline(axes, box)
    _add_color_bar(figure, lefts[1][0], lefts[-2][-1] + PANEL, rows_end)
    return pixels(figure)


def _lefts(counts: Sequence[int]) -> list[list[float]]:
    """Return the left edge of each panel in each group, in inches."""
    lefts, left = [], MARGIN + NAME_WIDTH
    for count in counts:
        lefts.append([left + index * (PANEL + GAP) for index in range(count)])
        left = lefts[-1][-1] + PANEL + GROUP_GAP
    return lefts


def _show_view(view: np.ndarray, axes: Axes, maps: Mapping, vectors: Mapping) -> None:
    axes.imshow(view, extent=(0, len(view), len(view), 0))


def _show_similarity(
    query: str, key: str, axes: Axes, maps: Mapping[str, Tensor], vectors: Mapping[str, Tensor]
) -> None:
    missing = [level for level in (query, key) if level not in maps]
    if missing:
        _note(axes, f'no {missing[0].upper()}')
    elif len(maps[query]) != len(maps[key]):
        _note(axes, 'different widths')
    else:
        similarity = similarity_map(maps[key].float(), vectors[query]).cpu().numpy()
        _show_cells(axes, similarity, cmap=COLORS, vmin=LIMITS[0], vmax=LIMITS[1])


def _show_components(level: str, axes: Axes, maps: Mapping[str, Tensor], vectors: Mapping) -> None:
    if level not in maps:
        _note(axes, f'no {level.upper()}')
    else:
        _show_cells(axes, principal_components(maps[level]))


def _show_cells(axes: Axes, cells: np.ndarray, **colors) -> None:
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    axes.imshow(cells, extent=(0, right, bottom, 0), interpolation='nearest', **colors)


def _note(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.1, text, transform=axes.transAxes, ha='center', fontsize=8, color='0.35')


def _outline(axes: Axes, box: Sequence[float]) -> None:
    x0, y0, x1, y1 = box
    axes.add_patch(
        Rectangle(
            (x0, y0), x1 - x0, y1 - y0, fill=False, ec='black', lw=1.2,
            path_effects=[withStroke(linewidth=2.6, foreground='white')],
        )
    )  # fmt: skip


def _add_color_bar(figure: Figure, left: float, right: float, top: float) -> None:
    width = min(right - left, 4 * PANEL)
    axes = place_axes(figure, (left + right - width) / 2, top + 0.1, width, 0.1)
    figure.colorbar(ScalarMappable(Normalize(*LIMITS), COLORS), cax=axes, orientation='horizontal')
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.tick_params(labelsize=8, length=2)
    axes.set_xlabel('A → B: cosine similarity of the region on A to each cell of B', fontsize=8)
