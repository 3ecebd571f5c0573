"""Photometric operations on the device versus the operations of the data pipeline."""

import numpy as np
import pytest
import torch

from mmcrosscl.datasets.transforms import (
    RandomColorJitter,
    RandomGaussianBlur,
    RandomGrayscale,
    change_view,
)
from mmcrosscl.errors import InputError
from mmcrosscl.models import ViewPreprocessor, change_views
from mmcrosscl.structures import ViewPairSample
from tests.datasets.transforms.images import PHOTOS, error, photo

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@pytest.fixture(scope='module')
def views():
    return np.stack([photo(name)[:224, :224] for name in PHOTOS])


def batched(views):
    return torch.from_numpy(views).permute(0, 3, 1, 2)


def on_device(views, plans, device='cpu'):
    changed = change_views(batched(views).float().to(device), plans).cpu()
    assert torch.equal(changed, changed.round()) and changed.min() >= 0 and changed.max() <= 255
    return changed.permute(0, 2, 3, 1).numpy()


def random_plans(seed, count):
    np.random.seed(seed)
    results = dict(img=[None] * count)
    for step in (RandomGaussianBlur, RandomColorJitter, RandomGrayscale):
        step(on_device=True).transform(results)
    return results['photometric']


def test_views_can_have_different_operations(views):
    plans = [(('blur', 1.3),), (('contrast', 0.6),), (('grayscale', 0.0),), (('hue', -0.1),)]
    for view, plan, changed in zip(views, plans, on_device(views, plans)):
        assert error(changed, change_view(view, plan)) < 1.6


def test_random_plans_of_any_order_and_length_match_the_pipeline(views):
    many = np.concatenate([views] * 8)
    plans = random_plans(0, len(many))
    assert len({tuple(name for name, _ in plan) for plan in plans}) > 15
    errors = [
        error(changed, change_view(view, plan))
        for view, plan, changed in zip(many, plans, on_device(many, plans))
    ]
    # the hue of dark noise is coarse in uint8, and later operations may amplify the error
    assert np.mean(errors) < 1 and max(errors) < 4


def test_the_error_is_large_for_a_missing_operation_or_a_wrong_plan(views):
    plans = [(('saturation', 1.4), ('blur', 1.5), ('hue', 0.1))] * 4
    right = on_device(views, plans)
    for wrong in ([plan[1:] for plan in plans], [plan[::-1] for plan in plans], [()] * 4):
        assert error(on_device(views, wrong), right) > 0.3
    mixed = on_device(views, [plans[0], (), plans[0], ()])
    assert np.array_equal(mixed[::2], right[::2]) and np.array_equal(mixed[1::2], views[1::2])


def test_views_smaller_than_the_blur_are_blurred():
    views = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
    assert on_device(views, [(('blur', 2.0),)]).std() < views.std()


def sample(plans):
    return ViewPairSample() if plans is None else ViewPairSample(photometric=list(plans))


def normalized(views):
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    return (batched(views).float() - mean) / std


def test_both_views_are_changed_and_normalized(views):
    plans = [random_plans(seed, 2) for seed in range(4)]
    data = dict(inputs=[batched(views), batched(views)], data_samples=[sample(p) for p in plans])
    out = ViewPreprocessor(MEAN, STD)(data)
    for which in range(2):
        expected = np.stack([change_view(v, p[which]) for v, p in zip(views, plans)])
        torch.testing.assert_close(out['inputs'][which], normalized(expected), rtol=0, atol=1e-5)


def test_the_path_for_other_devices_matches_the_cpu(views):
    plans = random_plans(3, 4)
    preprocessor = ViewPreprocessor(MEAN, STD)
    one, other = (
        prepare(batched(views), plans)
        for prepare in (preprocessor._on_cpu, preprocessor._on_device)
    )
    assert one.dtype == other.dtype == torch.float32
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in (one, other))
    # a difference of 1 in 0 to 255 is about 1/57 after normalization
    assert (one - other).abs().mean() < 1 / 57


def test_views_without_plans_are_only_normalized(views):
    data = dict(inputs=[batched(views)] * 2, data_samples=[sample(None)] * 4)
    out = ViewPreprocessor(MEAN, STD)(data)
    torch.testing.assert_close(out['inputs'][1], normalized(views), rtol=0, atol=1e-5)
    assert out['inputs'][0].is_contiguous(memory_format=torch.channels_last)
    raw = ViewPreprocessor()(data)['inputs'][0]
    assert raw.dtype == torch.float32 and torch.equal(raw, batched(views).float())


@pytest.mark.parametrize('settings', [dict(mean=MEAN), dict(std=STD), dict(mean=[1.0], std=[1.0])])
def test_an_incomplete_normalization_raises_an_error(settings):
    with pytest.raises(InputError, match='set both for three channels, or omit both'):
        ViewPreprocessor(**settings)


@pytest.mark.gpu
def test_a_gpu_matches_the_cpu_without_waiting(views):
    plans = random_plans(0, 4)
    torch.testing.assert_close(
        torch.from_numpy(on_device(views, plans, 'cuda')),
        torch.from_numpy(on_device(views, plans)),
        rtol=0,
        atol=1,
    )
    inputs = [batched(views).pin_memory()] * 2
    data = dict(inputs=inputs, data_samples=[sample((plan, plan)) for plan in plans])
    preprocessor = ViewPreprocessor(MEAN, STD).cuda()
    torch.cuda.set_sync_debug_mode('error')
    try:
        out = preprocessor(data)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert out['inputs'][0].is_cuda


def test_channels_are_reversed_before_the_normalization():
    views = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    data = dict(inputs=[views, views], data_samples=[ViewPairSample(), ViewPairSample()])
    mean, std = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
    preprocessor = ViewPreprocessor(mean, std, rgb_to_bgr=True)
    expected = (views.flip(1) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
        :, None, None
    ]
    assert preprocessor.channel_order == 'bgr'
    for inputs in preprocessor(data)['inputs']:
        torch.testing.assert_close(inputs, expected, atol=1e-5, rtol=1e-5)
    # as on a GPU
    inputs = preprocessor._on_device(views, [(), ()])
    torch.testing.assert_close(inputs, expected, atol=1e-5, rtol=1e-5)
