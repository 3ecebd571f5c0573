"""The text of a pre-training config."""

from dataclasses import replace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from mmcrosscl.detectors import Schedule, config_text, default_iterations, dry_run, find_detector
from mmcrosscl.detectors.pretraining import SIGMAS, Code, source
from mmcrosscl.engine import load_config, read_config

NAME = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'


@pytest.fixture(scope='module')
def parts():
    detector = find_detector(read_config(NAME), NAME)
    return detector, dry_run(detector)


def load(folder, *arguments):
    path = folder / 'config.py'
    path.write_text(config_text(*arguments))
    return load_config(path, work_dir=folder)


def test_the_config_of_a_detector(tmp_path, parts):
    detector, features = parts
    cfg = load(tmp_path, detector, features, '/my/photos', 500, Schedule(5000, 16, 3))
    model, loader = cfg.model, cfg.train_dataloader
    assert model.backbone.type == 'CSPNeXt' and model.neck.detector.type == 'CSPNeXtPAFPN'
    assert model.backbone.norm_cfg.type == 'BN'
    assert model.data_preprocessor.rgb_to_bgr and model.data_preprocessor.std[0] == 57.375
    assert model.queue.length == 500
    assert (loader.batch_size, loader.num_workers, loader.dataset.data_root) == (
        16,
        3,
        '/my/photos',
    )
    assert loader.dataset.pipeline[1].scale == 224
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[0].end == 5000
    assert cfg.default_hooks.checkpoint.interval == 500
    assert cfg.optim_wrapper.optimizer.type == 'SGD' and cfg.find_unused_parameters
    # of the published recipe
    assert model.head.loss.temperature == 0.2 and model.momentum == 0.001


def test_another_view_size(tmp_path, parts):
    detector, features = parts
    features = replace(features, view_size=256)
    cfg = load(tmp_path, detector, features, 'x', 10, Schedule(1, 1, 0))
    assert cfg.train_pipeline[1].scale == cfg.train_dataloader.dataset.pipeline[1].scale == 256


def test_small_views_have_as_much_less_blur(tmp_path, parts):
    detector, features = parts
    cfg = load(tmp_path, detector, replace(features, view_size=112), 'x', 10, Schedule(1, 1, 0))
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert pipeline[1].scale == 112
    assert pipeline[2].type.endswith('Blur') and pipeline[2].sigma_range == (0.05, 1.0)
    published = load(tmp_path, detector, features, 'x', 10, Schedule(1, 1, 0))
    assert published.train_pipeline[2].sigma_range == SIGMAS


def test_a_backbone_without_batch_norm_is_trained_with_adamw(tmp_path, parts):
    detector, features = parts
    features = replace(features, batch_norm=False, channels_last=False, unreached=())
    cfg = load(tmp_path, detector, features, 'x', 10, Schedule(100, 1, 0))
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=2e-4, weight_decay=0.05)
    assert [(s.begin, s.end) for s in cfg.param_scheduler] == [(0, 5), (5, 100)]
    assert cfg.model.channels_last is False and 'find_unused_parameters' not in cfg


def test_modules_of_custom_components_are_imported(tmp_path, parts):
    detector, features = parts
    detector = replace(detector, imports=('json.tool',))
    cfg = load(tmp_path, detector, features, 'x', 10, Schedule(1, 1, 0))
    assert cfg.custom_imports.imports == ['json.tool']


@pytest.mark.parametrize('iterations, interval', [(20, 50), (499, 50), (600, 60), (5000, 500)])
def test_short_runs_save_few_checkpoints(parts, iterations, interval):
    text = config_text(*parts, 'x', 10, Schedule(iterations, 1, 0))
    assert f'checkpoint=dict(by_epoch=False, interval={interval})' in text


@pytest.mark.parametrize(
    'images, batch_size, iterations', [(500, 32, 5000), (1_281_167, 256, 1_000_912), (1, 1, 5000)]
)
def test_the_default_length(images, batch_size, iterations):
    assert default_iterations(images, batch_size) == iterations


@pytest.mark.parametrize(
    'value',
    [
        dict(type='X', a=[1, 2.5, None, True], b=(1,), c=dict()),
        dict(long=['x' * 40, 'y' * 40, ('z' * 40,)], other={'not an identifier': 1, 2: 3}),
        "a 'quoted' text with a \\ and a\nnew line",
    ],
)
def test_values_are_written_as_they_are_read(tmp_path, value):
    text = f'value = {source(value)}\n'
    (tmp_path / 'x.py').write_text(text)
    read = Config.fromfile(tmp_path / 'x.py').value
    assert (read.to_dict() if isinstance(value, dict) else read) == value
    assert all(len(line) <= 100 for line in text.splitlines())


def test_expressions_are_written_without_quotes():
    assert source(dict(pipeline=Code('train_pipeline'))) == 'dict(pipeline=train_pipeline)'


@pytest.mark.parametrize('iterations', [1, 30, 400])
def test_the_rate_of_a_short_run_without_batch_norm_reaches_its_maximum(
    tmp_path, parts, iterations
):
    found, features = parts
    features = replace(features, batch_norm=False)
    schedule = load(
        tmp_path, found, features, 'x', 1000, Schedule(iterations, 8, 1)
    ).param_scheduler
    weights = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.AdamW([weights], lr=1.0)
    built = [PARAM_SCHEDULERS.build(dict(each, optimizer=optimizer)) for each in schedule]
    rates = []
    for _ in range(iterations):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for each in built:
            each.step()
    assert max(rates) == pytest.approx(1.0)
