import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcrosscl.datasets.transforms import RegionPairs, TwoCrops
from mmcrosscl.errors import InputError
from tests.datasets.transforms.images import photo


def run(crops, size=224, **settings):
    results = dict(crops=np.array(crops, dtype=float), img_shape=(size, size))
    return RegionPairs(**settings).transform(results)


@st.composite
def crop(draw):
    """Generate a crop, possibly thin, tiny or at the border, of an image of up to 2,000×2,000."""
    width, height = draw(st.integers(1, 2000)), draw(st.integers(1, 2000))
    w, h = draw(st.integers(1, width)), draw(st.integers(1, height))
    left = draw(st.sampled_from([0, width - w]) | st.integers(0, width - w))
    top = draw(st.sampled_from([0, height - h]) | st.integers(0, height - h))
    return left, top, w, h


@given(query=crop(), key=crop(), size=st.sampled_from([32, 64, 224, 384, 480]))
def test_regions_match_a_direct_computation(query, key, size):
    results = run([query, key], size)
    n = 0
    for row in range(6):
        for column in range(6):
            x0, y0 = 32 * size / 224 * column, 32 * size / 224 * row
            x1, y1 = x0 + 48 * size / 224, y0 + 48 * size / 224
            mapped = []
            for x, y in ((x0, y0), (x1, y1)):
                image_x = query[0] + x * query[2] / size
                image_y = query[1] + y * query[3] / size
                mapped += [
                    (image_x - key[0]) * size / key[2],
                    (image_y - key[1]) * size / key[3],
                ]
            assert results['query_regions'][n].tolist() == pytest.approx([x0, y0, x1, y1])
            assert results['key_regions'][n].tolist() == pytest.approx(mapped, rel=1e-5, abs=1e-3)
            inside = min(mapped[:2]) >= 0 and max(mapped[2:]) < size
            # exactly on the border, rounding decides the comparison
            near = min(abs(v) for v in (*mapped, *(v - size for v in mapped))) < 1e-9 * size
            if not near:
                assert bool(results['paired'][n]) == inside
            n += 1
    assert n == len(results['paired']) == 36
    assert results['paired'].dtype == bool
    assert results['query_regions'].dtype == results['key_regions'].dtype == np.float32


@given(same=crop(), size=st.sampled_from([64, 224, 480]))
def test_equal_crops_pair_every_window_with_itself(same, size):
    results = run([same, same], size)
    np.testing.assert_allclose(
        results['key_regions'], results['query_regions'], rtol=1e-4, atol=1e-3 * size / 64
    )


def test_disjoint_crops_have_no_pairs():
    assert not run([(0, 0, 50, 50), (60, 60, 40, 40)])['paired'].any()


def test_windows_beyond_the_view_are_omitted():
    assert len(run([(0, 0, 9, 9)] * 2, grid=7)['paired']) == 36
    assert len(run([(0, 0, 9, 9)] * 2, grid=20, stride=8)['paired']) == 20**2
    # x1 = 224 is not within a view of 224
    assert len(run([(0, 0, 9, 9)] * 2, window=64, grid=6)['paired']) == 25


def test_a_paired_region_shows_the_same_content_in_both_views():
    """The mean color of a region is equal in both views up to resampling."""
    np.random.seed(1)
    results = TwoCrops(scale=224).transform(dict(img=photo()))
    results = RegionPairs().transform(results)
    query, key = (view.astype(float) for view in results['img'])
    pairs = list(zip(results['query_regions'], results['key_regions'], results['paired']))
    assert sum(bool(paired) for *_, paired in pairs) > 3

    def mean(view, box):
        x0, y0, x1, y1 = (round(v) for v in box.tolist())
        return view[y0:y1, x0:x1].mean(axis=(0, 1))

    for query_box, key_box, paired in pairs:
        if paired:
            assert mean(query, query_box) == pytest.approx(mean(key, key_box), abs=6)


def test_pairing_rates_of_the_published_crops():
    """On 500×375 images, 56 % of the windows are paired, and 2.4 % of the images have no pair."""
    np.random.seed(0)
    crops = TwoCrops()
    paired = np.stack(
        [run([crops.random_crop(375, 500) for _ in range(2)])['paired'] for _ in range(4000)]
    )
    assert paired.mean() == pytest.approx(0.56, abs=0.02)
    assert (~paired.any(axis=1)).mean() == pytest.approx(0.024, abs=0.009)


@pytest.mark.parametrize('settings', [dict(window=0), dict(stride=-1), dict(grid=0)])
def test_bad_settings_are_named(settings):
    with pytest.raises(InputError, match='must all be above 0'):
        RegionPairs(**settings)
