import random
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.registry import DATASETS
from PIL import Image
from torch.utils.data import Dataset

from mmcrosscl.datasets import SeededIndex, SeededInfiniteSampler, SeededSampler


def ranks(kind, world, images, **settings):
    """Return the samplers of all ranks."""
    made = []
    for rank in range(world):
        sampler = kind(list(range(images)), seed=5, **settings)
        sampler.rank, sampler.world_size = rank, world
        if kind is SeededSampler:
            sampler.num_samples = -(-images // world)
            sampler.total_size = sampler.num_samples * world
        made.append(sampler)
    return made


def in_order(samplers, count):
    """Return the first ``count`` indices of each rank, ordered by position."""
    rows = [list(islice(iter(sampler), count)) for sampler in samplers]
    return [index for row in zip(*rows) for index in row]


def key(index):
    return int(index), index.seed, index.epoch, index.position


@given(world=st.integers(1, 4), images=st.integers(1, 50), start=st.integers(0, 60))
def test_an_epoch_can_start_anywhere_and_does_not_depend_on_the_ranks(world, images, start):
    one = list(ranks(SeededSampler, 1, images)[0])
    assert sorted(map(int, one)) == list(range(images))
    assert [index.position for index in one] == list(range(images))
    many = in_order(ranks(SeededSampler, world, images), images)
    assert list(map(key, many[:images])) == list(map(key, one))

    samplers = ranks(SeededSampler, world, images)
    start = start // world * world
    for sampler in samplers:
        sampler.start = start
    assert list(map(key, in_order(samplers, images))) == list(map(key, many[start:]))
    # the next epoch is complete again
    assert len(in_order(samplers, images)) == len(many)


def test_each_epoch_has_a_different_order():
    sampler = ranks(SeededSampler, 1, 30)[0]
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(list(map(int, sampler)))
    assert len(set(map(tuple, orders))) == 3


@given(world=st.integers(1, 4), images=st.integers(1, 20), taken=st.integers(0, 70))
def test_an_infinite_order_can_start_anywhere_and_does_not_depend_on_the_ranks(
    world, images, taken
):
    one = list(map(key, islice(iter(ranks(SeededInfiniteSampler, 1, images)[0]), 360)))
    for lap in range(60 // images):
        assert sorted(k[0] for k in one[lap * images : (lap + 1) * images]) == list(range(images))
    samplers = ranks(SeededInfiniteSampler, world, images)
    for sampler in samplers:
        sampler.skip(taken)
    assert list(map(key, in_order(samplers, 20))) == one[taken * world : (taken + 20) * world]


@given(before=st.integers(1, 4), after=st.integers(1, 4), taken=st.integers(0, 30))
def test_another_number_of_ranks_resumes_the_same_order(before, after, taken):
    one = list(map(key, islice(iter(ranks(SeededInfiniteSampler, 1, 13)[0]), 200)))
    position = ranks(SeededInfiniteSampler, before, 13)[0].position(taken)
    samplers = ranks(SeededInfiniteSampler, after, 13)
    for sampler in samplers:
        sampler.origin = (taken, position)
        sampler.skip(taken)
    assert list(map(key, in_order(samplers, 10))) == one[position : position + 10 * after]


def test_without_shuffling_the_order_is_that_of_the_dataset():
    sampler = ranks(SeededInfiniteSampler, 1, 3, shuffle=False)[0]
    assert list(map(int, islice(iter(sampler), 7))) == [0, 1, 2, 0, 1, 2, 0]


def test_skipping_a_million_iterations_takes_constant_time():
    sampler = ranks(SeededInfiniteSampler, 1, 1000)[0]
    sampler.skip(256 * 10**6)
    assert next(iter(sampler)).position == 256 * 10**6


def random_numbers():
    return np.random.rand(), random.random(), torch.rand(1).item()


class Interleaved(Dataset):
    """Alternates between two copies of a dataset; computes the inner index with ``//``."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return 2 * len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index // 2]


@pytest.mark.parametrize('wrapper', ['unwrapped', 'ConcatDataset', 'RepeatDataset', 'Interleaved'])
def test_a_dataset_is_seeded_by_position_even_within_wrappers(tmp_path, wrapper):
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / f'{i}.png')
    (tmp_path / '2.png').write_bytes(b'broken')
    inner = dict(
        type='mmcrosscl.UnlabeledDataset',
        data_root=str(tmp_path),
        pipeline=[dict(type='mmcrosscl.LoadImage'), dict(type='mmcrosscl.TwoCrops', scale=32)],
    )
    config = {
        'unwrapped': inner,
        'ConcatDataset': dict(type='ConcatDataset', datasets=[inner, inner]),
        'RepeatDataset': dict(type='RepeatDataset', dataset=inner, times=2),
        'Interleaved': inner,
    }[wrapper]
    dataset = DATASETS.build(config)
    if wrapper == 'Interleaved':
        dataset = Interleaved(dataset)
    for i in range(len(dataset)):
        index = SeededIndex(i, 1, 2, 30 + i)
        first = dataset[index]
        random_numbers()
        again = dataset[index]
        assert first['img_path'] == again['img_path']
        assert np.array_equal(first['crops'], again['crops'])
        assert first['sample_idx'].position == 30 + i
