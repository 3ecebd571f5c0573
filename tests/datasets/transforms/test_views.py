import copy
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as F

from mmcrosscl.datasets.transforms import TwoCrops, resized_crop
from mmcrosscl.errors import InputError
from tests.datasets.transforms.images import error, photo


@pytest.mark.parametrize('name', ['coffee.png', 'retina.jpg', 'chelsea.png'])
@pytest.mark.parametrize('size', [96, 224, 480])
def test_resized_crop_is_pillows(name, size):
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
        theirs = F.resized_crop(Image.fromarray(img), top, left, h, w, [size, size])
        ours = resized_crop(img, crop, size)
        assert ours.shape == (size, size, 3) and ours.dtype == np.uint8
        assert error(ours, theirs) < 0.25
        assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= 2


def test_views_are_the_crops_that_it_names():
    torch.manual_seed(3)
    img = photo()
    results = TwoCrops(scale=96).transform(dict(img=img))
    assert results['crops'].shape == (2, 4) and results['img_shape'] == (96, 96)
    for view, crop in zip(results['img'], results['crops']):
        assert np.array_equal(view, resized_crop(img, tuple(crop.astype(int)), 96))
    assert not np.array_equal(*results['crops'])


def test_crops_are_drawn_as_torchvision_draws_them():
    torch.manual_seed(5)
    ours = [TwoCrops(scale=8).transform(dict(img=photo()))['crops'] for _ in range(20)]
    torch.manual_seed(5)
    image = Image.fromarray(photo())
    for crop in np.concatenate(ours):
        top, left, height, width = RandomResizedCrop.get_params(image, (0.2, 1), (3 / 4, 4 / 3))
        assert crop.tolist() == [left, top, width, height]


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 999))
def test_any_image_size_gives_crops_inside_it(height, width, seed):
    torch.manual_seed(seed)
    results = TwoCrops(scale=32).transform(dict(img=np.zeros((height, width, 3), np.uint8)))
    left, top, w, h = results['crops'].T
    assert (left >= 0).all() and (top >= 0).all() and (w >= 1).all() and (h >= 1).all()
    assert (left + w <= width).all() and (top + h <= height).all()


@pytest.mark.parametrize('shape', [(1, 1), (10, 10000), (10000, 10)])
def test_extreme_images_become_views(shape):
    results = TwoCrops(scale=224).transform(dict(img=np.full((*shape, 3), 7, np.uint8)))
    for view in results['img']:
        assert view.shape == (224, 224, 3) and (view == 7).all()


def test_a_flipped_image_of_mmcv_is_taken():
    img = photo()
    torch.manual_seed(0)
    flipped = TwoCrops(scale=64).transform(dict(img=img[:, ::-1]))
    torch.manual_seed(0)
    expected = TwoCrops(scale=64).transform(dict(img=np.ascontiguousarray(img[:, ::-1])))
    for ours, theirs in zip(flipped['img'], expected['img']):
        assert np.array_equal(ours, theirs)


def _report_scale(transform, go, queue):
    go.wait(30)
    queue.put(transform.scale)


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_a_new_scale_reaches_processes_that_already_run(method):
    context = get_context(method)
    transform, go, queue = TwoCrops(scale=64), context.Event(), context.Queue()
    process = context.Process(target=_report_scale, args=(transform, go, queue))
    process.start()
    transform.set_scale(96)
    go.set()
    assert queue.get(timeout=60) == 96
    process.join(30)


def test_copies_have_a_scale_of_their_own():
    transform = TwoCrops(scale=64)
    copy.deepcopy(transform).set_scale(96)
    assert transform.scale == 64


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(scale=0), 'scale is 0'),
        (dict(crop_ratio_range=(0.5, 0.2)), 'crop_ratio_range is'),
        (dict(aspect_ratio_range=(0, 1)), 'aspect_ratio_range is'),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        TwoCrops(**settings)
