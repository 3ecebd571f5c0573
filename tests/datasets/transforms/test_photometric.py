"""Random parameters, plans, and the table of operations."""

import numpy as np
import pytest
import torch

from mmcrosscl.datasets import collate_views
from mmcrosscl.datasets.transforms import (
    PackViews,
    RandomColorJitter,
    RandomGaussianBlur,
    RandomGrayscale,
    RegionPairs,
    TwoCrops,
    photometric,
)
from mmcrosscl.datasets.transforms.photometric import OPERATIONS, Operation
from mmcrosscl.errors import InputError
from mmcrosscl.models import ViewPreprocessor, change_views
from tests.datasets.transforms.images import PHOTOS, photo


@pytest.fixture(params=PHOTOS)
def view(request):
    return np.ascontiguousarray(photo(request.param)[:224, :224])


def test_jitter_applies_all_four_operations_in_any_order():
    orders, values = set(), {name: [] for name in ('brightness', 'contrast', 'saturation', 'hue')}
    np.random.seed(0)
    jitter = RandomColorJitter()
    for _ in range(1500):
        plan = jitter.random_plan()
        orders.add(tuple(name for name, _ in plan))
        for name, value in plan:
            values[name].append(value)
    assert len(orders) == 24 and {tuple(sorted(order)) for order in orders} == {
        ('brightness', 'contrast', 'hue', 'saturation')
    }
    for name, (low, high) in dict(
        brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.4), hue=(-0.1, 0.1)
    ).items():
        seen = np.array(values[name])
        assert low <= seen.min() and seen.max() <= high
        assert seen.mean() == pytest.approx((low + high) / 2, abs=0.06 * (high - low))
        assert seen.std() == pytest.approx((high - low) / np.sqrt(12), rel=0.06)


def test_the_strength_of_blur_is_uniformly_distributed():
    np.random.seed(0)
    blur = RandomGaussianBlur()
    seen = [sigma for _ in range(2000) for _, sigma in blur.random_plan()]
    assert len(seen) == 2000
    assert 0.1 <= min(seen) < 0.12 and 1.98 < max(seen) <= 2
    assert np.mean(seen) == pytest.approx(1.05, abs=0.05)


def row(**functions):
    functions.setdefault('on_device', lambda views, parameters, largest: views)
    return Operation(**functions, parameter_range=lambda amount: (0, amount))


@pytest.mark.parametrize('on_device', [False, True])
@pytest.mark.parametrize(
    'transform, prob', [(RandomGaussianBlur, 0.5), (RandomColorJitter, 0.8), (RandomGrayscale, 0.2)]
)
def test_each_view_is_changed_independently(monkeypatch, transform, prob, on_device):
    changed = object()
    monkeypatch.setattr(transform, 'random_plan', lambda self: (('mark', 0),))
    monkeypatch.setitem(OPERATIONS, 'mark', row(on_cpu=lambda view, _: changed))
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


def test_plans_for_the_device_equal_the_operations_of_a_worker(view):
    for seed in range(20):
        results = []
        for on_device in (False, True):
            np.random.seed(seed)
            results.append(dict(img=[view, view]))
            for step in steps(on_device=on_device):
                step.transform(results[-1])
        on_cpu, planned = results
        for changed, plan in zip(on_cpu['img'], planned['photometric']):
            assert np.array_equal(changed, photometric.change_view(view, plan))


def test_a_worker_transform_after_a_device_transform_is_refused(view):
    results = dict(img=[view, view])
    RandomGaussianBlur(prob=1, on_device=True).transform(results)
    with pytest.raises(InputError, match='RandomGrayscale follows a transform with on_device=True'):
        RandomGrayscale().transform(results)


def test_a_single_image_of_another_pipeline_is_accepted():
    from mmdet.registry import TRANSFORMS

    grayscale = TRANSFORMS.build(dict(type='mmcrosscl.RandomGrayscale', prob=1))
    img = grayscale(dict(img=photo()))['img']
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


@pytest.mark.parametrize('missing', ['on_cpu', 'on_device', 'parameter_range'])
def test_an_operation_without_a_function_cannot_be_created(missing):
    fields = dict(on_cpu=abs, on_device=abs, parameter_range=abs)
    del fields[missing]
    with pytest.raises(TypeError, match=missing):
        Operation(**fields)


def test_amounts_determine_the_parameter_ranges():
    ranges = RandomColorJitter(brightness=0.3, contrast=2, saturation=0, hue=0.2).ranges
    assert ranges == dict(
        brightness=(0.7, 1.3), contrast=(0, 3), saturation=(1, 1), hue=(-0.2, 0.2)
    )
    assert RandomGaussianBlur(sigma_range=[0.5, 1]).sigma_range == (0.5, 1)


def posterize(view, levels):
    return view // int(levels) * np.uint8(levels)


def posterize_on_device(views, parameters, largest):
    assert parameters.shape == (len(views), 3) and parameters[:, 0].max() == largest
    levels, _, offset = parameters[:, :, None, None, None].unbind(dim=1)
    return (views / levels).floor() * levels + offset


class RandomPosterize(photometric.PerView):
    def random_plan(self):
        low, high = OPERATIONS['posterize'].parameter_range(self.prob)
        return (('posterize', float(np.random.randint(low, high))),)


@pytest.mark.parametrize('on_device', [False, True])
def test_a_new_operation_needs_one_row(monkeypatch, on_device):
    operation = Operation(
        on_cpu=posterize,
        on_device=posterize_on_device,
        parameter_range=lambda amount: (2, 2 + 60 * amount),
        arguments=(3.0, 0.0),
    )
    monkeypatch.setitem(OPERATIONS, 'posterize', operation)
    np.random.seed(0)
    packed, expected = [], []
    for name in PHOTOS[:3]:
        results = TwoCrops(64).transform(dict(img=photo(name)))
        state = np.random.get_state()
        expected.append([posterize(view, np.random.randint(2, 62)) for view in results['img']
                         if np.random.rand() < 1])  # fmt: skip
        np.random.set_state(state)
        steps = (RandomPosterize(1, on_device), RandomGrayscale(0, on_device), RegionPairs())
        for step in (*steps, PackViews()):
            results = step.transform(results)
        packed.append(results)
    data = collate_views(packed)
    plans = [sample.get('photometric', [(), ()]) for sample in data['data_samples']]
    inputs = ViewPreprocessor()(data)['inputs']
    for which in range(2):
        wanted = np.stack([views[which] for views in expected]).transpose(0, 3, 1, 2)
        assert np.array_equal(inputs[which], wanted)
        changed = change_views(data['inputs'][which].float(), [plan[which] for plan in plans])
        assert torch.equal(changed, inputs[which])
