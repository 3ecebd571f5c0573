from mmengine.dataset import DefaultSampler
from torch.utils.data import DataLoader

from mmcrosscl.compat.endless_batches import EndlessBatches, skip_images
from mmcrosscl.datasets import SeededInfiniteSampler


def test_batches_follow_what_is_set_after_they_are_built():
    data = list(range(10))
    sampler = SeededInfiniteSampler(data, shuffle=False)
    batches = EndlessBatches(DataLoader(data, batch_size=3, sampler=sampler))
    assert skip_images(sampler, 4)
    iterator = iter(batches)
    assert [next(iterator).tolist() for _ in range(3)] == [[4, 5, 6], [7, 8, 9], [0, 1, 2]]


def test_other_samplers_cannot_skip():
    assert not skip_images(DefaultSampler([1, 2, 3]), 1)
