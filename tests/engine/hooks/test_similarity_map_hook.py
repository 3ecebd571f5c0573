from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.engine import build_runner
from mmcrosscl.engine.hooks import SimilarityMapHook
from mmcrosscl.engine.hooks.similarity_map_hook import central_region
from mmcrosscl.errors import InputError
from mmcrosscl.structures import ViewPairSample
from tests.training import tiny_config, validate_similarity

HOOK = dict(type='mmcrosscl.SimilarityMapHook')


def config(folder: Path, epochs: int = 2, **hook) -> Config:
    """Return a config that validates after each epoch of two iterations."""
    cfg = tiny_config(folder, epochs=epochs)
    validate_similarity(cfg)
    cfg.val_evaluator.draws = 2
    cfg.custom_hooks = [dict(HOOK, **hook)]
    cfg.launcher = 'none'
    return cfg


def figures(cfg: Config) -> dict[str, np.ndarray]:
    paths = sorted(Path(cfg.work_dir).glob('*/vis_data/vis_image/*.png'))
    return {path.name: np.array(Image.open(path)) for path in paths}


@pytest.mark.slow(10)
def test_each_validation_adds_a_figure_without_any_effect_on_the_training(tmp_path):
    cfg = config(tmp_path / 'with')
    runner = build_runner(cfg)
    model = runner.train()
    found = figures(cfg)
    assert list(found) == ['similarity_maps_2.png', 'similarity_maps_4.png']
    before, after = found.values()
    # the first of the two rows shows the weights before training in both figures
    height = before.shape[0]
    assert np.array_equal(before[: height // 3], after[: height // 3])
    assert not np.array_equal(before[height // 2 :], after[height // 2 :])

    other = config(tmp_path / 'without')
    other.custom_hooks = []
    expected = build_runner(other).train().state_dict()
    assert all(torch.equal(x, expected[name]) for name, x in model.state_dict().items())
    assert not figures(other)


@pytest.mark.slow(6)
def test_the_maps_before_training_are_those_of_the_initial_weights(tmp_path):
    cfg = config(tmp_path, epochs=1, count=2)
    runner = build_runner(cfg)
    runner.train()
    stored = read_checkpoint(tmp_path / 'work/epoch_1.pth')['similarity_maps']
    cfg.work_dir = str(tmp_path / 'initial')
    model = build_runner(cfg)
    model.model.init_weights()
    batch = next(iter(model.val_dataloader))
    samples = model.model.eval().val_step(batch)
    for sample, maps in zip(samples, stored['maps'], strict=False):
        assert sample.paired.any() and maps.keys() == {'p3', 'p4'}
        for level, x in maps.items():
            assert torch.allclose(x, sample.query_features[level], atol=1e-5)
    # the figures of two images are stacked
    assert figures(cfg) == {}
    cfg.work_dir = str(tmp_path / 'work')
    (figure,) = figures(cfg).values()
    assert len(stored['maps']) == 2 and len(figure) % 2 == 0


@pytest.mark.slow(8)
@pytest.mark.parametrize('stored', [True, False])
def test_a_resumed_run_draws_the_maps_before_training_if_the_checkpoint_has_them(tmp_path, stored):
    cfg = config(tmp_path)
    build_runner(cfg).train()
    expected = figures(cfg)['similarity_maps_4.png']
    (tmp_path / 'work/epoch_2.pth').unlink()
    checkpoint = read_checkpoint(tmp_path / 'work/epoch_1.pth')
    if not stored:
        del checkpoint['similarity_maps']
        torch.save(checkpoint, tmp_path / 'work/epoch_1.pth')
    cfg.resume = True
    runner = build_runner(cfg)
    runner.train()
    path = Path(runner.log_dir, 'vis_data/vis_image/similarity_maps_4.png')
    found = np.array(Image.open(path))
    if stored:
        assert np.array_equal(found, expected)
    else:
        assert len(found) < len(expected)


@pytest.mark.slow(6)
def test_other_validation_images_than_those_of_the_checkpoint_are_not_compared(tmp_path):
    build_runner(config(tmp_path, epochs=1)).train()
    cfg = config(tmp_path, epochs=2)
    cfg.val_dataloader.dataset.pipeline[1].crop_ratio_range = (0.8, 0.9)
    cfg.resume = True
    runner = build_runner(cfg)
    runner.train()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'The validation images differ from those of the resumed run.' in log
    sizes = [len(figure) for figure in figures(cfg).values()]
    assert sizes[0] > sizes[1]


def test_without_validation_nothing_is_drawn(tmp_path):
    cfg = tiny_config(tmp_path)
    cfg.custom_hooks = [HOOK]
    build_runner(cfg).train()
    assert not figures(cfg)
    assert 'similarity_maps' not in read_checkpoint(tmp_path / 'work/epoch_1.pth')


def test_images_without_paired_windows_are_skipped_with_a_warning(tmp_path):
    cfg = config(tmp_path, epochs=1)
    cfg.val_dataloader.dataset.pipeline[-2].window = 300
    hook = SimilarityMapHook()
    runner = build_runner(cfg)
    hook.before_train(runner)
    hook.after_val_iter(runner, 0)
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'None of the first 32 validation images has a paired window' in log
    assert not figures(cfg)


def test_a_validation_set_without_views_is_refused(tmp_path):
    cfg = config(tmp_path)
    cfg.val_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=64),
        dict(type='PackInputs'),
    ]
    with pytest.raises(InputError, match='needs a validation set of views; end the pipeline of'):
        build_runner(cfg).train()


def test_a_model_without_feature_maps_is_refused(tmp_path):
    cfg = config(tmp_path)
    cfg.model = dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, base_channels=16, stem_channels=16),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=128),
    )
    hook = SimilarityMapHook()
    with pytest.raises(InputError, match='needs the model mmcrosscl.CrossCL, but the model is Im'):
        hook.before_train(build_runner(cfg))


@pytest.mark.parametrize('count', [0, -1])
def test_an_invalid_count_is_refused(count):
    with pytest.raises(InputError, match=f'count is {count}; set a number of images of at least 1'):
        SimilarityMapHook(count)


def test_the_region_is_the_paired_one_closest_to_the_center():
    sample = ViewPairSample(metainfo=dict(img_shape=(64, 64)))
    sample.query_regions = np.array(
        [[0, 0, 8, 8], [24, 24, 40, 40], [40, 20, 56, 36], [20, 50, 36, 60]], np.float32
    )
    sample.paired = np.array([True, False, True, True])
    assert central_region(sample) == [40, 20, 56, 36]
