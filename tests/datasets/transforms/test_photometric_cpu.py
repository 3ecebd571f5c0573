"""Each operation matches Pillow or torchvision with the same parameter."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from torchvision.transforms import functional as F

from mmcrosscl.datasets.transforms import change_view, photometric_cpu
from tests.datasets.transforms.images import PHOTOS, error, photo


@pytest.fixture(params=PHOTOS)
def view(request):
    return np.ascontiguousarray(photo(request.param)[:224, :224])


@pytest.mark.parametrize('sigma', [0.1, 0.5, 1.0, 2.0])
def test_blur(view, sigma):
    expected = Image.fromarray(view).filter(ImageFilter.GaussianBlur(sigma))
    assert error(photometric_cpu.gaussian_blur(view, sigma), expected) < 1.5


@pytest.mark.parametrize('factor', [0.6, 0.9, 1.0, 1.4])
@pytest.mark.parametrize('name', ['adjust_brightness', 'adjust_contrast', 'adjust_saturation'])
def test_blends(view, name, factor):
    expected = getattr(F, name)(Image.fromarray(view), factor)
    assert error(getattr(photometric_cpu, name)(view, factor), expected) < 0.7


@pytest.mark.parametrize('shift', [-0.1, -0.03, 0.0, 0.05, 0.1, 0.5])
def test_hue(view, shift):
    expected = F.adjust_hue(Image.fromarray(view), shift)
    assert error(photometric_cpu.adjust_hue(view, shift), expected) < 3


def test_grayscale(view):
    expected = F.to_grayscale(Image.fromarray(view), num_output_channels=3)
    assert error(photometric_cpu.to_grayscale(view), expected) < 0.5


def test_operations_are_not_the_identity(view):
    # on an image of low contrast, the tolerances above would accept an operation without effect
    assert error(photometric_cpu.gaussian_blur(view, 2.0), view) > 0.5
    for name in ('adjust_brightness', 'adjust_contrast', 'adjust_saturation', 'to_grayscale'):
        assert error(getattr(photometric_cpu, name)(view, 0.6), view) > 1
    assert error(photometric_cpu.adjust_hue(view, 0.1), view) > 1


@pytest.mark.parametrize('view', PHOTOS[:3], indirect=True)  # the fourth has almost no color
def test_a_plan_in_order_matches_torchvision(view):
    """The test fails if an operation is dropped or if the order of the operations changes."""
    plan = (('blur', 1.5), ('saturation', 1.4), ('contrast', 1.4), ('hue', 0.1), ('grayscale', 0.0))
    expected = Image.fromarray(view).filter(ImageFilter.GaussianBlur(1.5))
    expected = F.adjust_saturation(expected, 1.4)
    expected = F.adjust_contrast(expected, 1.4)
    expected = F.to_grayscale(F.adjust_hue(expected, 0.1), num_output_channels=3)
    right = error(change_view(view, plan), expected)
    assert right < 2.5
    for dropped in range(len(plan)):
        wrong = plan[:dropped] + plan[dropped + 1 :]
        assert error(change_view(view, wrong), expected) > right + 0.3, plan[dropped]
    assert error(change_view(view, plan[::-1]), expected) > right + 0.3
