import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib import colormaps

from mmcrosscl.errors import InputError
from mmcrosscl.models import CrossCLHead
from mmcrosscl.visualization import plot_similarity_maps, principal_components, similarity_map
from mmcrosscl.visualization import similarity_maps as module
from mmcrosscl.visualization.similarity_maps import pool_region

VIEW = np.full((64, 64, 3), 128, np.uint8)
BOX = (8, 8, 24, 24)


def test_a_similarity_map_is_the_cosine_of_each_cell():
    cells, vector = torch.randn(5, 3, 4), torch.randn(5)
    expected = [
        [F.normalize(cells[:, y, x], dim=0) @ F.normalize(vector, dim=0) for x in range(4)]
        for y in range(3)
    ]
    assert torch.allclose(similarity_map(cells, 7 * vector), torch.tensor(expected), atol=1e-6)
    assert torch.allclose(similarity_map(vector[:, None, None], vector), torch.ones(1, 1))
    assert torch.allclose(similarity_map(-vector[:, None, None], vector), -torch.ones(1, 1))
    assert similarity_map(torch.zeros(5, 1, 1), vector) == 0


@pytest.mark.parametrize('stride', [8, 16])
def test_a_region_is_pooled_as_in_the_loss(stride):
    terms = [dict(query='p', key='p', negatives='own_rank')]
    head = CrossCLHead(terms, strides=dict(p=stride), loss=dict(type='mmcrosscl.InfoNCELoss'))
    feature_map = torch.randn(6, 64 // stride, 64 // stride)
    box = torch.tensor([[0, 3.5, 10, 40, 61.5]])
    expected = head.region_vectors(feature_map[None], box, 'p')[0]
    assert torch.equal(pool_region(feature_map, box[0, 1:].tolist(), 64), expected)


def test_the_components_are_the_directions_of_the_largest_variance():
    # coordinates in three orthogonal directions, with decreasing variance
    coordinates = torch.randn(3, 200) * torch.tensor([[0.3], [0.1], [0.03]])
    coordinates -= coordinates.mean(1, keepdim=True)
    basis = torch.linalg.qr(torch.randn(8, 8)).Q
    cells = basis[:, :3] @ coordinates + 100 * basis[:, 3:4]
    colors = principal_components(cells.reshape(8, 10, 20))
    assert colors.shape == (10, 20, 3) and colors.min() == 0 and colors.max() == 1
    for component in range(3):
        found = np.corrcoef(colors[..., component].ravel(), coordinates[component])[0, 1]
        assert abs(found) > 0.98


def test_the_colors_do_not_depend_on_the_order_of_cells_or_their_length():
    feature_map = torch.randn(8, 6, 6)
    colors = principal_components(feature_map)
    assert np.allclose(principal_components(feature_map.flip(2)), colors[:, ::-1], atol=1e-6)
    lengths = torch.rand(1, 6, 6) + 0.5
    assert np.allclose(principal_components(feature_map * lengths), colors, atol=1e-5)


@pytest.mark.parametrize(
    'feature_map',
    [
        torch.zeros(8, 3, 3),
        torch.ones(8, 3, 3),
        torch.ones(8, 30, 30) + 1e-7 * torch.randn(8, 30, 30),
        torch.randn(8, 1, 1),
        torch.full((8, 3, 3), float('nan')),
    ],
    ids=['zeros', 'ones', 'rounding', 'one cell', 'nan'],
)
def test_a_constant_map_is_gray(feature_map):
    assert (principal_components(feature_map) == 0.5).all()


@pytest.mark.parametrize('shape', [(2, 5, 5), (1, 5, 5), (8, 1, 2), (8, 2, 2)])
def test_a_map_of_low_rank_has_colors(shape):
    colors = principal_components(torch.randn(shape))
    assert colors.shape == (*shape[1:], 3) and np.isfinite(colors).all()


def test_infinite_cells_have_finite_colors():
    feature_map = torch.randn(8, 4, 4)
    feature_map[:, 0, 0] = float('inf')
    assert np.isfinite(principal_components(feature_map)).all()


def halves(side: int, channels: int = 4) -> torch.Tensor:
    """Return a map whose left half is +e0, and whose right half is e1 above and −e0 below."""
    cells = torch.zeros(channels, side, side)
    cells[0, :, : side // 2] = 1
    cells[1, : side // 2, side // 2 :] = 1
    cells[0, side // 2 :, side // 2 :] = -1
    return cells


def panels(figure: np.ndarray, counts: list[int]) -> list[np.ndarray]:
    """Return the panels of the first row without their frames."""
    top = module.HEADER
    return [
        figure[
            round(top * module.DPI) + 2 : round((top + module.PANEL) * module.DPI) - 2,
            round(left * module.DPI) + 2 : round((left + module.PANEL) * module.DPI) - 2,
        ]
        for group in module._lefts(counts)
        for left in group
    ]


def color(similarity: float) -> np.ndarray:
    return np.array(colormaps[module.COLORS]((similarity + 1) / 2)[:3]) * 255


def test_the_maps_show_the_similarity_of_each_cell():
    figure = plot_similarity_maps(VIEW, BOX, dict(model=dict(p4=halves(4), p3=halves(8))))
    view, *maps, _, _ = panels(figure, [1, 2, 2, 2])
    assert np.abs(view[100, 150].astype(int) - 128).max() < 3
    side = len(view)
    for panel in maps:
        for (y, x), similarity in {(0.1, 0.1): 1, (0.2, 0.8): 0, (0.8, 0.8): -1}.items():
            found = panel[round(y * side), round(x * side)]
            assert np.abs(found - color(similarity)).max() < 3
        # the region is outlined in black and white
        edge = panel[round(side * 16 / 64), : round(side * 12 / 64)].astype(int).sum(1)
        assert edge.min() < 150 and edge.max() > 600


def test_levels_of_different_widths_are_not_compared():
    figure = plot_similarity_maps(VIEW, BOX, dict(model=dict(c3=halves(8, 4), c4=halves(4, 6))))
    _, first, second, *across, _, _ = panels(figure, [1, 2, 2, 2])
    for panel in (first, second):
        assert np.abs(panel[10, 10] - color(1)).max() < 3
    for panel in across:
        # an empty panel with a note
        assert (panel[10, 10] == panel[10, -10]).all() and np.ptp(panel[10, 10]) == 0


def size(counts: list[int], rows: int) -> tuple[int, int]:
    width = module._lefts(counts)[-1][-1] + module.PANEL + module.MARGIN
    height = module.HEADER + rows * (module.PANEL + module.GAP) + module.FOOTER
    return int(height * module.DPI), int(width * module.DPI)


@pytest.mark.parametrize(
    'models, counts',
    [
        (dict(a=dict(p3=halves(8))), [1, 1, 1]),
        ({name: dict(p3=halves(8), p4=halves(4)) for name in 'ab'}, [1, 2, 2, 2]),
        # p3 and p5 are not compared
        (dict(a=dict(p5=halves(2), p3=halves(8), p4=halves(4))), [1, 3, 4, 3]),
        (
            dict(a=dict(p3=halves(8), p4=halves(4)), b=dict(c3=halves(8), c4=halves(4))),
            [1, 4, 4, 4],
        ),
        ({'$x$ of a very long name.pth\n\udcff': dict(p3=halves(8).half())}, [1, 1, 1]),
        (dict(a=dict(p3=torch.full((4, 8, 8), float('nan')))), [1, 1, 1]),
    ],
)  # fmt: skip
def test_the_figure_has_a_row_per_model_and_a_column_per_pair_of_adjacent_levels(models, counts):
    figure = plot_similarity_maps(VIEW, BOX, models)
    assert figure.dtype == np.uint8 and figure.shape[2] == 3
    assert figure.shape[:2] == pytest.approx(size(counts, len(models)), abs=1)


@pytest.mark.parametrize(
    'box', [(-1, 0, 10, 10), (0, 0, 65, 10), (10, 0, 10, 10), (0, 20, 10, 10), (0, 0, np.nan, 9)]
)
def test_a_region_that_is_not_within_the_view_is_refused(box):
    with pytest.raises(InputError, match='is empty or not within the view of 64×64 pixels; choose'):
        plot_similarity_maps(VIEW, box, dict(a=dict(p3=halves(8))))


@pytest.mark.parametrize('models', [{}, dict(a={})])
def test_no_maps_are_refused(models):
    with pytest.raises(InputError, match='there are no feature maps to plot; pass'):
        plot_similarity_maps(VIEW, BOX, models)
