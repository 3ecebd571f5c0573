"""Each operation against Pillow and torchvision, with the drawn parameters fixed."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from torchvision.transforms import functional as F

from mmcrosscl.datasets.transforms import (
    RandomColorJitter,
    RandomGaussianBlur,
    RandomGrey,
    photometric,
)
from mmcrosscl.errors import InputError
from tests.datasets.transforms.images import error, photo

PHOTOS = ['coffee.png', 'astronaut.png', 'chelsea.png', 'hubble_deep_field.jpg']


@pytest.fixture(params=PHOTOS)
def view(request):
    return np.ascontiguousarray(photo(request.param)[:224, :224])


@pytest.mark.parametrize('sigma', [0.1, 0.5, 1.0, 2.0])
def test_blur(view, sigma):
    theirs = Image.fromarray(view).filter(ImageFilter.GaussianBlur(sigma))
    assert error(photometric.gaussian_blur(view, sigma), theirs) < 1.5


@pytest.mark.parametrize('factor', [0.6, 0.9, 1.0, 1.4])
@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation'])
def test_blends(view, name, factor):
    theirs = getattr(F, f'adjust_{name}')(Image.fromarray(view), factor)
    assert error(photometric.ADJUSTMENTS[name](view, factor), theirs) < 0.7


@pytest.mark.parametrize('shift', [-0.1, -0.03, 0.0, 0.05, 0.1, 0.5])
def test_hue(view, shift):
    theirs = F.adjust_hue(Image.fromarray(view), shift)
    assert error(photometric.adjust_hue(view, shift), theirs) < 3


def test_grey(view):
    theirs = F.to_grayscale(Image.fromarray(view), num_output_channels=3)
    assert error(RandomGrey(prob=1).change(view), theirs) < 0.5


def test_operations_are_not_the_identity(view):
    # the tolerances above would pass an operation that does nothing on a dull image
    assert error(photometric.gaussian_blur(view, 2.0), view) > 0.5
    for adjust in photometric.ADJUSTMENTS.values():
        assert error(adjust(view, 0.6), view) > 1
    assert error(photometric.adjust_hue(view, 0.1), view) > 1


def test_jitter_applies_all_four_in_a_drawn_order(monkeypatch):
    orders, factors = set(), {name: [] for name in ('brightness', 'contrast', 'saturation', 'hue')}
    calls = []

    def record(name):
        def adjust(view, value):
            calls.append(name)
            factors[name].append(value)
            return view

        return adjust

    monkeypatch.setattr(photometric, 'adjust_hue', record('hue'))
    monkeypatch.setattr(
        photometric,
        'ADJUSTMENTS',
        {name: record(name) for name in ('brightness', 'contrast', 'saturation')},
    )
    np.random.seed(0)
    jitter = RandomColorJitter()
    for _ in range(1500):
        calls.clear()
        jitter.change(np.zeros((2, 2, 3), np.uint8))
        orders.add(tuple(calls))
        assert sorted(calls) == ['brightness', 'contrast', 'hue', 'saturation']
    assert len(orders) == 24
    for name, (low, high) in dict(
        brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.4), hue=(-0.1, 0.1)
    ).items():
        values = np.array(factors[name])
        assert low <= values.min() and values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.06 * (high - low))
        assert values.std() == pytest.approx((high - low) / np.sqrt(12), rel=0.06)


def test_blur_draws_its_strength_uniformly(monkeypatch):
    drawn = []
    monkeypatch.setattr(photometric, 'gaussian_blur', lambda view, sigma: drawn.append(sigma))
    np.random.seed(0)
    blur = RandomGaussianBlur()
    for _ in range(2000):
        blur.change(None)
    assert 0.1 <= min(drawn) < 0.12 and 1.98 < max(drawn) <= 2
    assert np.mean(drawn) == pytest.approx(1.05, abs=0.05)


@pytest.mark.parametrize(
    'transform, prob',
    [(RandomGaussianBlur(), 0.5), (RandomColorJitter(), 0.8), (RandomGrey(), 0.2)],
)
def test_each_view_is_changed_with_its_own_draw(monkeypatch, transform, prob):
    changed = object()
    monkeypatch.setattr(type(transform), 'change', lambda self, view: changed)
    np.random.seed(0)
    hits = np.array(
        [
            [view is changed for view in transform.transform(dict(img=[None, None]))['img']]
            for _ in range(3000)
        ]
    )
    assert hits.mean(axis=0) == pytest.approx([prob, prob], abs=0.04)
    both = (hits[:, 0] & hits[:, 1]).mean()
    assert both == pytest.approx(prob**2, abs=0.04)


def test_a_single_image_of_another_pipeline_is_taken():
    from mmdet.registry import TRANSFORMS

    grey = TRANSFORMS.build(dict(type='mmcrosscl.RandomGrey', prob=1))
    img = grey(dict(img=photo()))['img']
    assert img.shape == (400, 600, 3) and (img[..., 0] == img[..., 2]).all()


@pytest.mark.parametrize(
    'build, message',
    [
        (lambda: RandomGrey(prob=1.5), 'RandomGrey has prob 1.5'),
        (lambda: RandomGaussianBlur(sigma_range=(0, 2)), 'sigma_range is'),
        (lambda: RandomColorJitter(hue=0.7), 'hue is 0.7'),
        (lambda: RandomColorJitter(contrast=-1), 'contrast is -1'),
    ],
)
def test_bad_settings_are_named(build, message):
    with pytest.raises(InputError, match=message):
        build()
