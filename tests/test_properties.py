"""Any input returns the documented result or raises an error of one sentence."""

import io
import re
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmcrosscl.checkpoints import TARGETS, convert
from mmcrosscl.datasets import collate_views
from mmcrosscl.datasets.transforms import (
    LoadImage,
    PackViews,
    RandomColorJitter,
    RandomGaussianBlur,
    RandomGrayscale,
    RegionPairs,
    TwoCrops,
)
from mmcrosscl.engine import MultiScaleHook, SkippedImagesHook
from mmcrosscl.errors import BrokenImageError, InputError
from mmcrosscl.models import CrossCLHead, InfoNCELoss, KeyQueue, ViewPreprocessor
from mmcrosscl.structures import SeededIndex
from tests.checkpoints.makers import crosscl

SIDES = st.integers(1, 90)
SEEDS = st.integers(0, 2**32 - 1)
PROBS = st.floats(0, 1)
# config values of the correct type, most of which are out of range
NUMBERS = st.one_of(
    st.integers(-3, 300), st.floats(-2, 2), st.sampled_from([0, -0.0, 1e-9, 1e9, -1e9])
)


def image(height, width, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def full_pipeline(scale, probs, on_device):
    blur, jitter, grayscale, flip = probs
    return [
        TwoCrops(scale=scale, flip_prob=flip),
        RandomGaussianBlur(prob=blur, on_device=on_device),
        RandomColorJitter(prob=jitter, on_device=on_device),
        RandomGrayscale(prob=grayscale, on_device=on_device),
        RegionPairs(base_size=scale, window=scale / 4, stride=scale / 7),
        PackViews(),
    ]


@settings(max_examples=150)
@given(
    height=SIDES,
    width=SIDES,
    scale=st.integers(1, 70),
    seed=SEEDS,
    probs=st.tuples(PROBS, PROBS, PROBS, PROBS),
    on_device=st.booleans(),
)
def test_any_image_yields_two_views_with_regions_inside(
    height, width, scale, seed, probs, on_device
):
    samples = []
    for position in range(2):
        index = SeededIndex(0, seed, 0, position)
        index.seed_generators()
        results = dict(img=image(height, width, seed), img_path='x', sample_idx=index)
        for transform in full_pipeline(scale, probs, on_device):
            results = transform(results)
        samples.append(results)
        views, sample = results['inputs'], results['data_samples']
        assert all(view.shape == (scale, scale, 3) and view.dtype == np.uint8 for view in views)
        for left, top, w, h in sample.crops:
            assert 0 <= left and 0 <= top and w >= 1 and h >= 1
            assert left + w <= width and top + h <= height
        assert sample.query_regions.shape == sample.key_regions.shape
        assert len(sample.paired) == len(sample.query_regions)
        assert (sample.query_regions >= 0).all() and (sample.query_regions <= scale).all()
        inside = sample.key_regions[sample.paired]
        assert (inside >= 0).all() and (inside <= scale).all()
        assert np.isfinite(sample.key_regions).all()
    data = collate_views(samples)
    ready = ViewPreprocessor(mean=[120.0] * 3, std=[60.0] * 3)(data)
    for views in ready['inputs']:
        assert views.shape == (2, 3, scale, scale) and views.isfinite().all()
        assert views.min() >= -2.01 and views.max() <= 2.26


@settings(max_examples=150)
@given(
    kind=st.sampled_from(['JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'PPM']),
    height=SIDES,
    width=SIDES,
    seed=SEEDS,
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4),
    cut=st.floats(0, 1),
)
def test_a_changed_file_is_decoded_or_reported_as_broken(
    tmp_path_factory, kind, height, width, seed, changes, cut
):
    buffer = io.BytesIO()
    Image.fromarray(image(height, width, seed)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for fraction, value in changes:
        content[int(fraction * len(content))] = value
    if changes and cut > 0.7:
        content = content[: int(cut * len(content))]
    path = tmp_path_factory.mktemp('fuzz') / 'x.jpg'
    path.write_bytes(content)
    try:
        results = LoadImage(max_pixels=10**6)(dict(img_path=str(path)))
    except BrokenImageError as error:
        assert changes and error.reason
        return
    assert results['img'].dtype == np.uint8 and results['img'].shape[2] == 3
    assert results['img'].shape[:2] == results['img_shape']
    if not changes:
        assert results['img_shape'] == (height, width)


COMPONENTS = {
    'TwoCrops.scale': lambda x: TwoCrops(scale=int(x)),
    'TwoCrops.crop_ratio_range': lambda x: TwoCrops(crop_ratio_range=(x, 1)),
    'TwoCrops.aspect_ratio_range': lambda x: TwoCrops(aspect_ratio_range=(0.5, x)),
    'TwoCrops.flip_prob': lambda x: TwoCrops(flip_prob=x),
    'RandomGaussianBlur.sigma_range': lambda x: RandomGaussianBlur(sigma_range=(x, 2.0)),
    'RandomGaussianBlur.prob': lambda x: RandomGaussianBlur(prob=x),
    'RandomColorJitter.brightness': lambda x: RandomColorJitter(brightness=x),
    'RandomColorJitter.hue': lambda x: RandomColorJitter(hue=x),
    'RandomGrayscale.prob': lambda x: RandomGrayscale(prob=x),
    'RegionPairs.window': lambda x: RegionPairs(window=x),
    'RegionPairs.stride': lambda x: RegionPairs(stride=x),
    'RegionPairs.grid': lambda x: RegionPairs(grid=int(x)),
    'LoadImage.min_size': lambda x: LoadImage(min_size=x),
    'LoadImage.max_pixels': lambda x: LoadImage(max_pixels=x),
    'KeyQueue.length': lambda x: KeyQueue(4, int(min(x, 1000))),
    'InfoNCELoss.temperature': lambda x: InfoNCELoss(temperature=x),
    'MultiScaleHook.scales': lambda x: MultiScaleHook(scales=[int(x), 224]),
    'SkippedImagesHook.limit': lambda x: SkippedImagesHook(limit=x),
}


@settings(max_examples=400)
@given(name=st.sampled_from(sorted(COMPONENTS)), value=NUMBERS)
def test_a_setting_works_or_raises_an_error_of_one_sentence(name, value):
    """A component that accepts a setting also runs with it, so no setting fails during training."""
    try:
        component = COMPONENTS[name](value)
    except InputError as error:
        assert '\n' not in str(error) and len(str(error)) > 20
        return
    if isinstance(component, TwoCrops) and component.scale <= 300:
        assert component(dict(img=image(20, 30, 0)))['img'][0].shape[0] == component.scale
    if isinstance(component, RandomGaussianBlur | RandomColorJitter | RandomGrayscale):
        assert component(dict(img=image(20, 30, 0)))['img'].shape == (20, 30, 3)
    if isinstance(component, RegionPairs) and component.grid <= 50:
        crops = np.array([[0, 0, 20, 30], [1, 1, 9, 9]], float)
        assert 'paired' in component(dict(crops=crops, img_shape=(224, 224)))


LEVELS = st.sampled_from(['global', 'p2', 'p3', 'p4', 'x', ''])
NEGATIVES = st.sampled_from(['queue', 'all_ranks', 'own_rank', 'none', ''])


@settings(max_examples=200)
@given(
    terms=st.lists(
        st.fixed_dictionaries(
            dict(query=LEVELS, key=LEVELS, negatives=NEGATIVES), optional=dict(weight=NUMBERS)
        ),
        max_size=4,
    )
)
def test_terms_work_or_raise_an_error_of_one_sentence(terms):
    try:
        head = CrossCLHead(
            terms=terms,
            strides=dict(p2=4, p3=8, p4=16),
            roi_layer=dict(type='RoIAlign', output_size=1),
            loss=dict(type='mmcrosscl.InfoNCELoss'),
        )
    except InputError as error:
        assert '\n' not in str(error)
        return
    assert len(head.terms) == len(terms) > 0


@cache
def weights():
    return dict(crosscl().state_dict())


@pytest.mark.slow
@settings(max_examples=200)
@given(data=st.data(), to=st.sampled_from(TARGETS))
def test_a_changed_checkpoint_is_converted_or_raises_an_error_of_one_sentence(data, to):
    """Weights are missing, duplicate, renamed, of another shape or not tensors."""
    state = dict(weights())
    names = sorted(state)
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from(names))
        if name not in state:
            continue
        how = data.draw(st.sampled_from(['drop', 'rename', 'reshape', 'replace', 'add', 'twice']))
        if how == 'drop':
            del state[name]
        elif how == 'rename':
            state[name[::-1]] = state.pop(name)
        elif how == 'reshape':
            state[name] = weights()[name].flatten()[:-1]
        elif how == 'replace':
            state[name] = data.draw(st.sampled_from([None, 3, 'text', [], torch.zeros(0)]))
        elif how == 'add':
            state[data.draw(st.text(max_size=8))] = torch.zeros(2)
        else:
            state[f'module.{name}'] = state[name]
    try:
        conversion = convert({'state_dict': state}, to)
    except InputError as error:
        assert '\n' not in str(error)
        return
    assert conversion.state_dict
    for name, value in conversion.state_dict.items():
        assert isinstance(value, torch.Tensor) and isinstance(name, str)
    assert re.search(r'\d', conversion.table())
