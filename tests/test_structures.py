import io
import math
import pickle
import random
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcrosscl.datasets.transforms import PackViews, RandomGrayscale, RegionPairs, TwoCrops
from mmcrosscl.errors import InputError
from mmcrosscl.structures import SeededIndex, ViewPairSample, paired_rois
from tests.models.builders import make_sample


def key(index):
    return int(index), index.seed, index.epoch, index.position


def test_an_index_survives_pickling_and_copying():
    index = SeededIndex(7, 1, 2, 3)
    assert key(pickle.loads(pickle.dumps(index))) == (7, 1, 2, 3)
    assert key(deepcopy(index)) == (7, 1, 2, 3)
    assert index == 7 and [0] * 7 + [1] == [0, 0, 0, 0, 0, 0, 0, 1]


OPERATORS = {
    '+': lambda a, b: a + b,
    '-': lambda a, b: a - b,
    '*': lambda a, b: a * b,
    '//': lambda a, b: a // b,
    '%': lambda a, b: a % b,
    '**': lambda a, b: a**b,
    '<<': lambda a, b: a << b,
    '>>': lambda a, b: a >> b,
    '&': lambda a, b: a & b,
    '|': lambda a, b: a | b,
    '^': lambda a, b: a ^ b,
    'divmod 0': lambda a, b: divmod(a, b)[0],
    'divmod 1': lambda a, b: divmod(a, b)[1],
}


@given(name=st.sampled_from(sorted(OPERATORS)), a=st.integers(1, 40), b=st.integers(1, 40))
def test_every_integer_operator_keeps_the_position(name, a, b):
    operator, index = OPERATORS[name], SeededIndex(a, 1, 2, 3)
    expected = operator(a, b), 1, 2, 3
    assert key(operator(index, b)) == expected
    assert key(operator(index, np.int64(b))) == expected
    assert key(operator(a, SeededIndex(b, 1, 2, 3))) == expected
    assert key(operator(index, SeededIndex(b, 4, 5, 6))) == expected


def test_unary_operators_and_modular_powers_keep_the_position():
    index = SeededIndex(-7, 1, 2, 3)
    for value, expected in ((-index, 7), (+index, -7), (abs(index), 7), (~index, 6)):
        assert key(value) == (expected, 1, 2, 3)
    assert key(pow(SeededIndex(7, 1, 2, 3), 2, 5)) == (4, 1, 2, 3)


def test_other_results_equal_the_results_of_int():
    index = SeededIndex(7, 1, 2, 3)
    assert index / 2 == 3.5 and index + 0.5 == 7.5 and 0.5 + index == 7.5 and index**-1 == 1 / 7
    assert 'ab' * index == 'ab' * 7 and np.arange(9)[index] == 7
    assert (np.arange(3) + index).tolist() == [7, 8, 9]
    assert type(int(index)) is int and type(index < 8) is bool
    with pytest.raises(TypeError):
        index + 'a'
    with pytest.raises(ZeroDivisionError):
        index // 0


def random_numbers():
    return np.random.rand(), random.random(), torch.rand(1).item()


def test_random_numbers_are_a_function_of_seed_epoch_and_position():
    seen = set()
    for seed in range(3):
        for epoch in range(3):
            for position in range(3):
                index = SeededIndex(0, seed, epoch, position)
                index.seed_generators()
                first = random_numbers()
                random_numbers()
                index.at(5).seed_generators()
                assert random_numbers() == first
                seen.add(first)
    assert len(seen) == 27


def packed(index=5, on_device=True):
    results = dict(
        img=np.zeros((60, 80, 3), np.uint8), img_path='a.png', sample_idx=index, ori_shape=(60, 80)
    )
    steps = (TwoCrops(64), RandomGrayscale(1, on_device=on_device), RegionPairs(), PackViews())
    for step in steps:
        results = step.transform(results)
    return results['data_samples']


def test_fields_are_typed():
    sample = make_sample(64)
    assert sample.query_regions.dtype == sample.key_regions.dtype == np.float32
    assert set(sample.keys()) == {'query_regions', 'key_regions', 'paired'}
    for name in ('query_regions', 'key_regions', 'paired'):
        with pytest.raises(AssertionError, match='should be a'):
            setattr(sample, name, torch.zeros(2, 4))
    assert sample.regions('query') is sample.query_regions
    assert sample.regions('key') is sample.key_regions


def test_copies_and_pickles_of_a_sample_keep_its_regions():
    sample = packed(SeededIndex(5, 1, 2, 3))
    for copy in (sample.clone(), sample.to('cpu'), pickle.loads(pickle.dumps(sample))):
        assert_same(copy, sample)


def assert_same(one, other):
    assert type(one) is ViewPairSample
    assert set(one.all_keys()) == set(other.all_keys())
    for name, value in other.all_items():
        assert type(one.get(name)) is type(value), name
        assert np.array_equal(one.get(name), value) if hasattr(value, 'dtype') else (
            one.get(name) == value
        ), name  # fmt: skip


@pytest.mark.parametrize('on_device', [False, True])
@pytest.mark.parametrize('index', [5, SeededIndex(5, 1, 2, 3)])
def test_a_record_is_read_with_weights_only_and_rebuilds_the_sample(index, on_device):
    sample = packed(index, on_device)
    file = io.BytesIO()
    torch.save(sample.to_record(), file)
    file.seek(0)
    record = torch.load(file, weights_only=True)
    rebuilt = ViewPairSample.from_record(record)
    assert_same(rebuilt, sample)
    if isinstance(index, SeededIndex):
        assert record['sample_idx'] == dict(index=5, seed=1, epoch=2, position=3)
        assert key(rebuilt.sample_idx) == (5, 1, 2, 3)
    assert rebuilt.to_record().keys() == record.keys()


def test_a_record_has_plain_numbers_but_no_features():
    sample = packed(np.int64(5))
    sample.query_features = sample.key_features = dict(p4=torch.zeros(2, 3, 3))
    record = sample.to_record()
    assert type(record['sample_idx']) is int
    assert 'query_features' not in record and 'key_features' not in record


def test_a_record_of_an_earlier_release_is_read():
    record = dict(
        img_path='a.png',
        sample_idx=dict(index=5, seed=1, epoch=2, position=3),
        img_shape=[64, 64],
        flip=True,
        crops=torch.tensor([[0.0, 0, 60, 60], [1, 2, 30, 40]], dtype=torch.float64),
        query_regions=torch.zeros(2, 4),
        key_regions=torch.ones(2, 4),
        paired=torch.tensor([True, False]),
        photometric=[[['blur', 1.5], ['grey', 0.0]], []],
    )
    sample = ViewPairSample.from_record(record)
    assert key(sample.sample_idx) == (5, 1, 2, 3)
    assert sample.photometric == [(('blur', 1.5), ('grayscale', 0.0)), ()]
    assert sample.img_shape == (64, 64) and sample.crops.shape == (2, 4)
    assert np.array_equal(sample.paired, [True, False])
    assert np.array_equal(paired_rois([sample, sample], 'key'), [[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])


def test_the_index_is_packed_as_received():
    for index in (5, SeededIndex(5, 1, 2, 3)):
        sample = packed(index)
        assert type(sample.sample_idx) is type(index) and sample.sample_idx == index
    assert key(sample.sample_idx) == (5, 1, 2, 3)


def test_paired_rois_are_the_paired_regions_with_the_index_of_their_sample():
    samples = [make_sample(64), make_sample(64, key_crop=(0.1, 0.0, 0.8, 0.9)), make_sample(64)]
    samples[2].paired = np.zeros(36, bool)
    for view in ('query', 'key'):
        rois = paired_rois(samples, view)
        assert rois.dtype == np.float32
        expected = [
            [index, *box]
            for index, sample in enumerate(samples)
            for box, paired in zip(sample.regions(view).tolist(), sample.paired)
            if paired
        ]
        assert rois.tolist() == expected and math.isfinite(rois.sum())
    assert 0 < samples[1].paired.sum() < 36
    assert paired_rois(samples[2:], 'query').shape == (0, 5)


@pytest.mark.parametrize('name', ['query_regions', 'key_regions', 'paired'])
def test_samples_without_regions_raise_an_error(name):
    sample = make_sample(64)
    delattr(sample, name)
    view = 'key' if name == 'key_regions' else 'query'
    with pytest.raises(InputError, match=f'no \'{view}_regions\' or no "paired".*RegionPairs'):
        paired_rois([sample], view)
    with pytest.raises(InputError, match=f"no '{name}'; add mmcrosscl.RegionPairs before"):
        ViewPairSample.from_results(sample.to_dict())
