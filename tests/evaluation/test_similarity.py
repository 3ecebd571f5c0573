import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmcrosscl.evaluation import similarity
from mmcrosscl.evaluation.similarity import bootstrap, compare_regions, linear_cka


def regions(count: int = 40, images: int = 8, noise: float = 0.5):
    """Return query and key vectors, the image of each region, and boxes that overlap in part."""
    query = F.normalize(torch.randn(count, 6), dim=1)
    key = F.normalize(query + noise * torch.randn(count, 6), dim=1)
    corner = torch.randint(0, 60, (count, 2)).float()
    image = torch.randint(0, images, (count,)).sort().values
    return query, key, image, torch.cat((corner, corner + 30), dim=1)


def overlap(a, b) -> bool:
    return bool(max(a[0], b[0]) < min(a[2], b[2]) and max(a[1], b[1]) < min(a[3], b[3]))


@pytest.mark.parametrize('block', [similarity.BLOCK, 1])
def test_regions_are_compared_with_all_regions_that_do_not_overlap(block, monkeypatch):
    monkeypatch.setattr(similarity, 'BLOCK', block)
    query, key, image, boxes = regions()
    found = compare_regions(query, key, image, boxes)
    for i in range(len(query)):
        others = [
            j
            for j in range(len(query))
            if j != i and (image[i] != image[j] or not overlap(boxes[i], boxes[j]))
        ]
        scores = [float(query[i] @ key[j]) for j in others]
        same = float(query[i] @ key[i])
        assert found.same[i] == pytest.approx(same, abs=1e-6)
        assert found.other[i] == pytest.approx(np.mean(scores), abs=1e-6)
        assert bool(found.hit[i]) == (same > max(scores))


def test_equal_vectors_of_all_regions_are_no_hits():
    vectors = F.normalize(torch.ones(5, 3), dim=1)
    found = compare_regions(vectors, vectors, torch.arange(5), torch.zeros(5, 4))
    assert not found.hit.any()
    assert torch.allclose(found.same, found.other)


def test_a_single_region_has_no_other_objects():
    vector = F.normalize(torch.ones(1, 3), dim=1)
    found = compare_regions(vector, vector, torch.zeros(1, dtype=int), torch.zeros(1, 4))
    assert found.other.isnan().all() and not found.hit.any()


def test_no_regions():
    found = compare_regions(*(torch.zeros(0, 3),) * 2, torch.zeros(0, dtype=int), torch.zeros(0, 4))
    assert all(field.shape == (0,) for field in found)
    assert np.isnan(bootstrap(torch.zeros(0, 2), torch.zeros(0, dtype=int))[0]).all()


def test_the_interval_covers_the_mean_of_the_population_in_95_percent_of_samples():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        # regions of an image share an offset
        offsets = generator.normal(size=50).repeat(4)
        values = torch.from_numpy(1 + offsets + 0.5 * generator.normal(size=200))
        estimate = bootstrap(values[:, None], torch.arange(50).repeat_interleave(4), draws=300)[0]
        covered += estimate.low <= 1 <= estimate.high
    assert 0.90 <= covered / 300 <= 0.98


def test_the_bootstrap_is_reproducible_and_omits_nan():
    values = torch.randn(30, 2, dtype=torch.float64)
    image = torch.arange(10).repeat_interleave(3)
    first = bootstrap(values, image)
    assert first == bootstrap(values, image)
    assert first[0].value == pytest.approx(float(values[:, 0].mean()))
    with_nan = torch.cat((values, torch.tensor([[torch.nan, 0]], dtype=torch.float64)))
    assert bootstrap(with_nan, torch.cat((image, torch.tensor([9])))) == first


def direct_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return linear CKA as in Kornblith et al., from cross-covariance matrices."""
    x, y = x - x.mean(0), y - y.mean(0)
    cross = torch.linalg.matrix_norm(y.T @ x) ** 2
    return float(cross / (torch.linalg.matrix_norm(x.T @ x) * torch.linalg.matrix_norm(y.T @ y)))


@pytest.mark.parametrize('widths', [(8, 8), (16, 5), (5, 300)])
def test_alignment_equals_the_direct_computation(widths):
    x = torch.randn(120, widths[0], dtype=torch.float64) + 3
    y = x @ torch.randn(widths[0], widths[1], dtype=torch.float64)
    y = y + 2 * torch.randn_like(y)
    found = linear_cka(x, y, torch.arange(40).repeat_interleave(3))
    assert found.value == pytest.approx(direct_cka(x, y), rel=1e-10)
    assert found.low <= found.value <= found.high
    assert 0 < found.high - found.low < 0.5


def test_alignment_is_1_for_a_rotated_and_scaled_representation():
    x = torch.randn(60, 8, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    found = linear_cka(x, 5 * x @ rotation + 2, torch.arange(60))
    assert found.value == pytest.approx(1) and found.low == pytest.approx(1)


def test_alignment_of_constant_vectors_is_nan():
    found = linear_cka(torch.ones(10, 3), torch.randn(10, 3), torch.arange(10))
    assert np.isnan(found).all()
