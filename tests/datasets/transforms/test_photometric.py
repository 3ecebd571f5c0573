"""Each operation against Pillow and torchvision, with the drawn parameters fixed."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from torchvision.transforms import functional as F

from mmcrosscl.datasets.transforms import (
    RandomColorJitter,
    RandomGaussianBlur,
    RandomGrayscale,
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
    assert error(photometric.OPERATIONS[name](view, factor), theirs) < 0.7


@pytest.mark.parametrize('shift', [-0.1, -0.03, 0.0, 0.05, 0.1, 0.5])
def test_hue(view, shift):
    theirs = F.adjust_hue(Image.fromarray(view), shift)
    assert error(photometric.adjust_hue(view, shift), theirs) < 3


def test_grey(view):
    theirs = F.to_grayscale(Image.fromarray(view), num_output_channels=3)
    assert error(photometric.grey(view), theirs) < 0.5


def test_operations_are_not_the_identity(view):
    # the tolerances above would pass an operation that does nothing on a dull image
    assert error(photometric.gaussian_blur(view, 2.0), view) > 0.5
    for name in ('brightness', 'contrast', 'saturation', 'grey'):
        assert error(photometric.OPERATIONS[name](view, 0.6), view) > 1
    assert error(photometric.adjust_hue(view, 0.1), view) > 1


def test_jitter_draws_all_four_in_any_order():
    orders, values = set(), {name: [] for name in ('brightness', 'contrast', 'saturation', 'hue')}
    np.random.seed(0)
    jitter = RandomColorJitter()
    for _ in range(1500):
        plan = jitter.draw()
        orders.add(tuple(name for name, _ in plan))
        for name, value in plan:
            values[name].append(value)
    assert len(orders) == 24 and {tuple(sorted(order)) for order in orders} == {
        ('brightness', 'contrast', 'hue', 'saturation')
    }
    for name, (low, high) in dict(
        brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.4), hue=(-0.1, 0.1)
    ).items():
        drawn = np.array(values[name])
        assert low <= drawn.min() and drawn.max() <= high
        assert drawn.mean() == pytest.approx((low + high) / 2, abs=0.06 * (high - low))
        assert drawn.std() == pytest.approx((high - low) / np.sqrt(12), rel=0.06)


def test_blur_draws_its_strength_uniformly():
    np.random.seed(0)
    blur = RandomGaussianBlur()
    drawn = [sigma for _ in range(2000) for _, sigma in blur.draw()]
    assert len(drawn) == 2000
    assert 0.1 <= min(drawn) < 0.12 and 1.98 < max(drawn) <= 2
    assert np.mean(drawn) == pytest.approx(1.05, abs=0.05)


@pytest.mark.parametrize('on_device', [False, True])
@pytest.mark.parametrize(
    'transform, prob', [(RandomGaussianBlur, 0.5), (RandomColorJitter, 0.8), (RandomGrayscale, 0.2)]
)
def test_each_view_is_changed_with_its_own_draw(monkeypatch, transform, prob, on_device):
    changed = object()
    monkeypatch.setattr(transform, 'draw', lambda self: (('mark', 0),))
    monkeypatch.setitem(photometric.OPERATIONS, 'mark', lambda view, _: changed)
    np.random.seed(0)
    step = transform(on_device=on_device)
    seen = [step.transform(dict(img=[None, None])) for _ in range(3000)]
    if on_device:
        assert all(results['img'] == [None, None] for results in seen)
        hits = np.array([[bool(plan) for plan in results['photometric']] for results in seen])
    else:
        hits = np.array([[view is changed for view in results['img']] for results in seen])
    assert hits.mean(axis=0) == pytest.approx([prob, prob], abs=0.04)
    both = (hits[:, 0] & hits[:, 1]).mean()
    assert both == pytest.approx(prob**2, abs=0.04)


def steps(**settings):
    return [
        RandomGaussianBlur(**settings),
        RandomColorJitter(**settings),
        RandomGrayscale(**settings),
    ]


def test_what_is_left_to_the_device_is_what_would_be_done_here(view):
    for seed in range(20):
        results = []
        for on_device in (False, True):
            np.random.seed(seed)
            results.append(dict(img=[view, view]))
            for step in steps(on_device=on_device):
                step.transform(results[-1])
        here, there = results
        for done, plan in zip(here['img'], there['photometric']):
            assert np.array_equal(done, photometric.change_view(view, plan))


@pytest.mark.parametrize('view', PHOTOS[:3], indirect=True)  # the sky has hardly a colour
def test_the_three_steps_in_order_are_those_of_torchvision(view):
    """Fails if a step is dropped or moved: the same plan in another order is another image."""
    plan = (('blur', 1.5), ('saturation', 1.4), ('contrast', 1.4), ('hue', 0.1), ('grey', 0.0))
    expected = Image.fromarray(view).filter(ImageFilter.GaussianBlur(1.5))
    expected = F.adjust_saturation(expected, 1.4)
    expected = F.adjust_contrast(expected, 1.4)
    expected = F.to_grayscale(F.adjust_hue(expected, 0.1), num_output_channels=3)
    right = error(photometric.change_view(view, plan), expected)
    assert right < 2.5
    for dropped in range(len(plan)):
        wrong = plan[:dropped] + plan[dropped + 1 :]
        assert error(photometric.change_view(view, wrong), expected) > right + 0.3, plan[dropped]
    assert error(photometric.change_view(view, plan[::-1]), expected) > right + 0.3


def test_a_change_here_after_one_left_to_the_device_is_refused(view):
    results = dict(img=[view, view])
    RandomGaussianBlur(prob=1, on_device=True).transform(results)
    with pytest.raises(InputError, match='RandomGrayscale follows a step with on_device=True'):
        RandomGrayscale().transform(results)


def test_a_single_image_of_another_pipeline_is_taken():
    from mmdet.registry import TRANSFORMS

    grey = TRANSFORMS.build(dict(type='mmcrosscl.RandomGrayscale', prob=1))
    img = grey(dict(img=photo()))['img']
    assert img.shape == (400, 600, 3) and (img[..., 0] == img[..., 2]).all()


@pytest.mark.parametrize(
    'build, message',
    [
        (lambda: RandomGrayscale(prob=1.5), 'RandomGrayscale has prob 1.5'),
        (lambda: RandomGaussianBlur(sigma_range=(0, 2)), 'sigma_range is'),
        (lambda: RandomColorJitter(hue=0.7), 'hue is 0.7'),
        (lambda: RandomColorJitter(contrast=-1), 'contrast is -1'),
    ],
)
def test_bad_settings_are_named(build, message):
    with pytest.raises(InputError, match=message):
        build()
