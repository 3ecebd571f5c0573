from collections import Counter

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image

from mmcrosscl.engine import MultiScaleHook, build_runner
from mmcrosscl.engine.multi_scale_hook import two_crops
from mmcrosscl.errors import InputError
from tests.training import tiny_config


@pytest.mark.parametrize('max_epochs, period', [(200, 2), (800, 8), (100, 1), (7, 1), (150, 2)])
def test_there_is_a_draw_per_percent_of_the_epochs(max_epochs, period):
    hook = MultiScaleHook()
    scales = [hook.scale_at(epoch, max_epochs, seed=3) for epoch in range(max_epochs)]
    for epoch, scale in enumerate(scales):
        assert scale == scales[epoch // period * period]
    assert set(scales) <= {224, 384, 480}
    if max_epochs >= 100:
        assert set(scales) == {224, 384, 480}


def test_scales_are_drawn_evenly_and_by_the_seed():
    hook = MultiScaleHook()
    draws = Counter(hook.scale_at(epoch, 100, seed) for epoch in range(100) for seed in range(30))
    assert all(abs(count / 3000 - 1 / 3) < 0.04 for count in draws.values())
    runs = {tuple(hook.scale_at(epoch, 100, seed) for epoch in range(20)) for seed in range(5)}
    assert len(runs) == 5


def test_the_crops_of_wrapped_datasets_are_found(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / 'a.png')

    def dataset():
        return dict(
            type='mmcrosscl.UnlabelledDataset',
            data_root=str(tmp_path),
            pipeline=[dict(type='mmcrosscl.LoadImage'), dict(type='mmcrosscl.TwoCrops')],
        )

    wrapped = DATASETS.build(
        dict(
            type='RepeatDataset',
            times=2,
            dataset=dict(type='ConcatDataset', datasets=[dataset(), dataset()]),
        )
    )
    assert len(list(two_crops(wrapped))) == 2


@pytest.mark.parametrize('workers', [0, 2])
def test_views_of_an_epoch_have_the_drawn_size(tmp_path, workers, monkeypatch):
    cfg = tiny_config(tmp_path, epochs=6, workers=workers)
    cfg.custom_hooks = [dict(type='mmcrosscl.MultiScaleHook', scales=[32, 64, 96])]
    runner = build_runner(cfg)
    seen = []
    monkeypatch.setattr(
        runner.model,
        'train_step',
        lambda data, optim_wrapper: seen.append((runner.epoch, data['inputs'][0].shape[-1])) or {},
    )
    runner.train()
    hook = next(h for h in runner.hooks if isinstance(h, MultiScaleHook))
    assert seen == [(e, hook.scale_at(e, 6, runner.seed)) for e in range(6) for _ in range(2)]
    assert len({size for _, size in seen}) > 1


def test_iteration_based_training_is_refused(tmp_path):
    cfg = tiny_config(tmp_path)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
    cfg.custom_hooks = [dict(type='mmcrosscl.MultiScaleHook')]
    with pytest.raises(InputError, match='between epochs'):
        build_runner(cfg).train()


def test_a_pipeline_without_crops_is_refused(tmp_path):
    cfg = tiny_config(tmp_path)
    cfg.train_dataloader.dataset.pipeline = [dict(type='mmcrosscl.LoadImage')]
    cfg.custom_hooks = [dict(type='mmcrosscl.MultiScaleHook')]
    with pytest.raises(InputError, match='finds no mmcrosscl.TwoCrops'):
        build_runner(cfg).train()


@pytest.mark.parametrize('scales', [(), (0, 224)])
def test_bad_scales_are_named(scales):
    with pytest.raises(InputError, match='scales are'):
        MultiScaleHook(scales)
