from collections import Counter

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image

from mmcrosscl.datasets import SeededIndex
from mmcrosscl.engine import MultiScaleHook, build_runner
from mmcrosscl.engine.hooks.multi_scale_hook import ScaleSchedule, two_crops
from mmcrosscl.errors import InputError
from tests.training import tiny_config

SCALES = (224, 384, 480)


def scales(length, seed, **settings):
    schedule = ScaleSchedule(SCALES, length, **settings)
    if 'images' in settings:
        indices = [SeededIndex(0, seed, 0, 4 * step) for step in range(length)]
    else:
        indices = [SeededIndex(0, seed, step, 9) for step in range(length)]
    return [schedule(index) for index in indices]


@pytest.mark.parametrize('unit', [dict(), dict(images=4)], ids=['epochs', 'iterations'])
@pytest.mark.parametrize('length, period', [(200, 2), (800, 8), (100, 1), (7, 1), (150, 2)])
def test_each_percent_of_the_run_has_one_scale(length, period, unit):
    chosen = scales(length, 3, **unit)
    for step, scale in enumerate(chosen):
        assert scale == chosen[step // period * period]
    assert set(chosen) <= set(SCALES)
    if length >= 100:
        assert set(chosen) == set(SCALES)


def test_scales_are_equally_likely_and_depend_on_the_seed():
    counts = Counter(scale for seed in range(30) for scale in scales(100, seed))
    assert all(abs(count / 3000 - 1 / 3) < 0.04 for count in counts.values())
    assert len({tuple(scales(20, seed)) for seed in range(5)}) == 5


def test_a_resume_with_another_batch_size_keeps_the_scale_of_each_iteration():
    """The first 5 iterations have 4 images each, and later iterations have 8 images each."""
    before = ScaleSchedule(SCALES, 20, images=4)
    after = ScaleSchedule(SCALES, 20, images=8, first=(5, 20))
    for step in range(5, 20):
        for image in range(8):
            index = SeededIndex(0, 1, 0, 20 + 8 * (step - 5) + image)
            assert after(index) == before(SeededIndex(0, 1, 0, 4 * step))


def test_the_crops_of_wrapped_datasets_are_found(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / 'a.png')

    def dataset():
        return dict(
            type='mmcrosscl.UnlabeledDataset',
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
def test_views_of_an_epoch_have_the_size_of_the_schedule(tmp_path, workers, monkeypatch):
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
    schedule = ScaleSchedule((32, 64, 96), 6)
    assert seen == [
        (e, schedule(SeededIndex(0, runner.seed, e, 0))) for e in range(6) for _ in range(2)
    ]
    assert len({size for _, size in seen}) > 1


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_sampler_without_seeded_indices_is_refused(tmp_path, by_epoch):
    cfg = tiny_config(tmp_path)
    cfg.train_dataloader.sampler.type = 'DefaultSampler'
    if not by_epoch:
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
    cfg.custom_hooks = [dict(type='mmcrosscl.MultiScaleHook')]
    name = 'SeededSampler' if by_epoch else 'SeededInfiniteSampler'
    with pytest.raises(InputError, match=f'needs the sampler mmcrosscl.{name}; set'):
        build_runner(cfg).train()


def test_a_pipeline_without_crops_is_refused(tmp_path):
    cfg = tiny_config(tmp_path)
    cfg.train_dataloader.dataset.pipeline = [dict(type='mmcrosscl.LoadImage')]
    cfg.custom_hooks = [dict(type='mmcrosscl.MultiScaleHook')]
    with pytest.raises(InputError, match='needs mmcrosscl.TwoCrops in the pipeline'):
        build_runner(cfg).train()


@pytest.mark.parametrize('scales', [(), (0, 224)])
def test_invalid_scales_are_refused(scales):
    with pytest.raises(InputError, match='expected one or more scales above 0, but got'):
        MultiScaleHook(scales)
