"""A resumed loop loads the rest of the batches, and no others."""

import pytest
from torch.utils.data import DataLoader, IterableDataset

from mmcrosscl.compat.endless_batches import is_endless
from mmcrosscl.engine.runner.data_loading import omit_batches
from tests.engine.toys import Numbers, toy, train

BATCHES = dict(type='mmdet.AspectRatioBatchSampler')


@pytest.mark.parametrize('batches', [None, BATCHES], ids=['plain', 'aspect ratio'])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_resumed_loop_loads_only_the_rest(tmp_path, by_epoch, batches):
    def start(folder, **settings):
        cfg = toy(folder, by_epoch=by_epoch, **settings)
        cfg.train_dataloader.sampler.shuffle = True
        if batches is not None:
            cfg.train_dataloader.batch_sampler = batches
        return cfg

    loaded = train(start(tmp_path / 'complete')).train_dataloader.dataset.loaded
    # a part of the first epoch
    checkpoint = dict(type='mmcrosscl.SafeCheckpointHook', by_epoch=False, interval=3)
    first = train(start(tmp_path / 'a', default_hooks=dict(checkpoint=checkpoint)), train=3)
    resumed = start(tmp_path / 'a', default_hooks=dict(checkpoint=checkpoint), resume=True)
    rest = train(resumed).train_dataloader.dataset.loaded
    assert first.iter == 3 and len(rest) == len(loaded) - 12
    assert sorted(rest) == sorted(loaded[12:]) and (batches is not None or rest == loaded[12:])


def test_an_infinite_order_resumes_with_other_batches(tmp_path):
    train(toy(tmp_path, by_epoch=False), train=8)
    cfg = toy(tmp_path, by_epoch=False, resume=True)
    cfg.train_dataloader.batch_size = 2
    # after 8 batches of 4 items, which are two passes
    assert train(cfg).train_dataloader.dataset.loaded == list(range(8))
    cfg = toy(tmp_path, by_epoch=False, resume=True, train_cfg=dict(max_iters=14))
    assert train(cfg).train_dataloader.dataset.loaded == list(range(8, 16))


def test_the_rest_of_several_workers_and_epochs():
    loader = DataLoader(
        Numbers(), batch_size=4, num_workers=2, persistent_workers=True, collate_fn=len
    )
    assert omit_batches(loader, 3)
    assert [len(list(loader)) for _ in range(2)] == [1, 4] and len(loader) == 4
    assert loader.batch_sampler.batch_size == 4


def test_batches_without_indices_are_not_omitted():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(8))

    assert not omit_batches(DataLoader(Stream(), batch_size=4), 1)
    assert not omit_batches(DataLoader(Numbers(), batch_size=None), 1)


def test_samplers_that_never_end_are_known():
    from mmdet.datasets.samplers import MultiSourceSampler
    from mmengine.dataset import DefaultSampler, InfiniteSampler

    assert is_endless(InfiniteSampler(Numbers())) and not is_endless(DefaultSampler(Numbers()))
    assert is_endless(MultiSourceSampler.__new__(MultiSourceSampler))
