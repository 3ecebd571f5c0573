from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmcrosscl.datasets.demo.photos import write_demo_photos
from mmcrosscl.engine import build_runner
from tests.training import tiny_config

ENTRIES = sorted(Path('configs/crosscl').glob('*.py'))


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'photos'
    write_demo_photos(folder, count=4)
    return folder


@pytest.mark.parametrize('path', ENTRIES, ids=lambda path: path.stem)
def test_every_entry_config_makes_a_training_batch_and_a_model(path, photos):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    cfg.train_dataloader.dataset.update(data_root=str(photos), data_prefix='')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sample = dataset[0]
    size = 96 if 'demo' in path.stem else 224
    assert [tuple(view.shape) for view in sample['inputs']] == [(size, size, 3)] * 2
    assert sample['data_samples'].query_regions.shape == (36, 4)
    assert MODELS.build(cfg.model).queue.keys.shape == (cfg.model.queue_len, 128)


def schedule(name):
    cfg = Config.fromfile(f'configs/crosscl/{name}.py')
    (cosine,) = cfg.param_scheduler
    assert cosine.type == 'CosineAnnealingLR' and cosine.by_epoch
    assert cosine.T_max == cosine.end == cfg.train_cfg.max_epochs and cosine.begin == 0
    assert cosine.get('eta_min', 0) == 0
    optimizer = dict(cfg.optim_wrapper.optimizer)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 256
    assert {k: optimizer[k] for k in ('type', 'momentum', 'weight_decay')} == dict(
        type='SGD', momentum=0.9, weight_decay=1e-4
    )
    return cfg.train_cfg.max_epochs, optimizer['lr']


def test_schedules_are_the_published_ones():
    assert schedule('r50_8xb32') == (200, 0.03)
    assert schedule('r50_8xb32-400e_in1k') == (400, 0.03)
    assert schedule('r50_8xb32-800e_coco') == (800, 0.3)
    assert schedule('r50_8xb32-multi-scale_in1k') == (200, 0.03)


def test_the_model_is_the_published_one():
    model = MODELS.build(Config.fromfile('configs/crosscl/r50_8xb32.py').model)
    terms = [(t.query, t.key, t.negatives, t.weight) for t in model.head.terms]
    assert terms == [
        ('global', 'global', 'queue', 1.0),
        ('p4', 'p4', 'all_ranks', 1.0),
        ('p3', 'p3', 'own_rank', 1.0),
        ('p4', 'p3', 'own_rank', 1.0),
        ('p3', 'p4', 'all_ranks', 1.0),
    ]
    assert model.head.loss_module.temperature == 0.2
    assert model.queue.keys.shape == (65536, 128)
    assert model.backbone.layer2[0].conv2.stride == (2, 2)  # the 3×3, not the 1×1
    assert not any(hasattr(m, 'bn') for m in model.neck.lateral_convs.values())
    with_norm = MODELS.build(Config.fromfile('configs/crosscl/r50-fpn-bn_8xb32_in1k.py').model)
    assert all(hasattr(m, 'bn') for m in with_norm.neck.lateral_convs.values())


def test_the_steps_of_the_views_are_in_the_published_order():
    pipeline = Config.fromfile('configs/crosscl/r50_8xb32.py').train_pipeline
    assert [step.type.rpartition('.')[2] for step in pipeline] == [
        'LoadImage', 'TwoCrops', 'RandomGaussianBlur', 'RandomColorJitter', 'RandomGrayscale',
        'RegionPairs', 'PackViews',
    ]  # fmt: skip


def test_the_fast_config_leaves_colours_to_the_device_and_trains_in_bfloat16(tmp_path):
    cfg = tiny_config(tmp_path, workers=1, config='configs/crosscl/r50_8xb32-fast_in1k.py')
    runner = build_runner(cfg)
    seen = []
    loss = runner.model.loss

    def spy(inputs, data_samples):
        plans = [plan for sample in data_samples for plan in sample.photometric]
        names = {name for plan in plans for name, _ in plan}
        seen.append((len(plans), names, inputs[0].dtype, torch.is_autocast_enabled('cpu')))
        return loss(inputs, data_samples)

    runner.model.loss = spy
    runner.train()
    assert [(count, dtype, autocast) for count, _, dtype, autocast in seen] == [
        (8, torch.float32, True)
    ] * 2
    assert set().union(*(names for _, names, *_ in seen)) >= {'blur', 'hue', 'contrast'}
    assert type(runner.optim_wrapper).__name__ == 'BFloat16OptimWrapper'
