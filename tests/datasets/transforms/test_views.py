import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as F

from mmcrosscl.datasets import SeededIndex
from mmcrosscl.datasets.transforms import TwoCrops, resized_crop
from mmcrosscl.errors import InputError
from tests.datasets.transforms.images import error, photo


@pytest.mark.parametrize('name', ['coffee.png', 'retina.jpg', 'chelsea.png'])
@pytest.mark.parametrize('size', [96, 224, 480])
def test_resized_crop_matches_pillow(name, size):
    img = photo(name)
    height, width = img.shape[:2]
    for crop in [
        (0, 0, width, height),
        (13, 27, 180, 240),
        (width - 50, height - 40, 50, 40),
        (5, 5, 1, 1),
        (0, 7, width, 3),
    ]:
        left, top, w, h = crop
        reference = F.resized_crop(Image.fromarray(img), top, left, h, w, [size, size])
        actual = resized_crop(img, crop, size)
        assert actual.shape == (size, size, 3) and actual.dtype == np.uint8
        assert error(actual, reference) < 0.25
        assert np.abs(actual.astype(int) - np.asarray(reference)).max() <= 2


def test_views_show_the_recorded_crops():
    np.random.seed(3)
    img = photo()
    results = TwoCrops(scale=96, flip_prob=0).transform(dict(img=img))
    assert results['crops'].shape == (2, 4) and results['img_shape'] == (96, 96)
    for view, crop in zip(results['img'], results['crops']):
        assert np.array_equal(view, resized_crop(img, tuple(crop.astype(int)), 96))
    assert not np.array_equal(*results['crops'])


@pytest.mark.parametrize('height, width', [(375, 500), (500, 375), (40, 200), (200, 30), (7, 5)])
def test_crops_have_the_distribution_of_torchvision(height, width):
    """Kolmogorov–Smirnov tests of left, top, width, height, area and aspect, at level 1e-6."""
    np.random.seed(0)
    torch.manual_seed(0)
    count = 4000
    actual = np.array([TwoCrops().random_crop(height, width) for _ in range(count)])
    image = torch.empty(0, height, width)
    reference = np.array(
        [RandomResizedCrop.get_params(image, [0.2, 1], [3 / 4, 4 / 3]) for _ in range(count)]
    )[:, [1, 0, 3, 2]]

    def numbers(crops):
        return np.column_stack((crops, crops[:, 2] * crops[:, 3], crops[:, 2] / crops[:, 3])).T

    for one, other in zip(numbers(actual), numbers(reference)):
        points = np.unique(np.concatenate((one, other)))
        shares = [np.searchsorted(np.sort(x), points, side='right') / count for x in (one, other)]
        assert np.abs(shares[0] - shares[1]).max() < np.sqrt(np.log(2 / 1e-6) / count)


def test_an_image_that_no_random_crop_fits_is_center_cropped():
    image = torch.empty(0, 10, 400)
    top, left, height, width = RandomResizedCrop.get_params(image, [0.9, 1], [3 / 4, 4 / 3])
    assert TwoCrops(crop_ratio_range=(0.9, 1)).random_crop(10, 400) == (left, top, width, height)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 999))
def test_crops_lie_inside_an_image_of_any_size(height, width, seed):
    np.random.seed(seed)
    results = TwoCrops(scale=32).transform(dict(img=np.zeros((height, width, 3), np.uint8)))
    left, top, w, h = results['crops'].T
    assert (left >= 0).all() and (top >= 0).all() and (w >= 1).all() and (h >= 1).all()
    assert (left + w <= width).all() and (top + h <= height).all()


@pytest.mark.parametrize('shape', [(1, 1), (10, 10000), (10000, 10)])
def test_images_of_extreme_shape_are_cropped(shape):
    results = TwoCrops(scale=224).transform(dict(img=np.full((*shape, 3), 7, np.uint8)))
    for view in results['img']:
        assert view.shape == (224, 224, 3) and (view == 7).all()


def test_the_flip_applies_to_the_image_before_the_crops():
    img = photo()
    np.random.seed(3)
    flipped = TwoCrops(scale=96, flip_prob=1).transform(dict(img=img))
    np.random.seed(3)
    before = TwoCrops(scale=96, flip_prob=0).transform(dict(img=img[:, ::-1]))
    assert flipped['flip'] is True and before['flip'] is False
    assert np.array_equal(flipped['crops'], before['crops'])
    for actual, reference in zip(flipped['img'], before['img']):
        assert np.abs(actual.astype(int) - reference).max() <= 1 and error(actual, reference) < 0.02


def test_both_views_share_one_flip_half_of_the_time():
    """The image is dark on the left and bright on the right, which makes a flip detectable."""
    img = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (50, 1, 3))
    np.random.seed(0)
    seen = [TwoCrops(scale=8).transform(dict(img=img)) for _ in range(1000)]
    for results in seen:
        for view in results['img']:
            assert (view[:, 0] > view[:, -1]).all() == results['flip']
    assert np.mean([results['flip'] for results in seen]) == pytest.approx(0.5, abs=0.05)


def test_an_image_flipped_by_mmcv_is_accepted():
    img = photo()
    np.random.seed(0)
    flipped = TwoCrops(scale=64, flip_prob=0).transform(dict(img=img[:, ::-1]))
    np.random.seed(0)
    expected = TwoCrops(scale=64, flip_prob=0).transform(
        dict(img=np.ascontiguousarray(img[:, ::-1]))
    )
    for actual, reference in zip(flipped['img'], expected['img']):
        assert np.array_equal(actual, reference)


def test_the_scale_may_depend_on_the_index():
    transform = TwoCrops(scale=64)
    transform.scale_at = lambda index: 32 * (1 + index.epoch)
    image = np.zeros((50, 60, 3), np.uint8)
    for epoch in range(3):
        results = transform(dict(img=image, sample_idx=SeededIndex(4, 0, epoch, 7)))
        assert results['img_shape'] == (32 * (1 + epoch),) * 2
        assert results['img'][0].shape == results['img'][1].shape == (*results['img_shape'], 3)


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(scale=0), 'scale is 0'),
        (dict(crop_ratio_range=(0.5, 0.2)), 'crop_ratio_range is'),
        (dict(aspect_ratio_range=(0, 1)), 'aspect_ratio_range is'),
        (dict(flip_prob=1.5), 'flip_prob is 1.5'),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        TwoCrops(**settings)
