import random

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmcrosscl.datasets.transforms import resized_crop
from mmcrosscl.engine import build_runner, load_config
from mmcrosscl.errors import InputError
from mmcrosscl.models import ViewPreprocessor
from mmcrosscl.structures import ViewPairSample
from mmcrosscl.visualization import draw_views, views
from mmcrosscl.visualization.views import crops_in_image, first_items, seen_views, title_of
from tests.training import tiny_config

PHOTOMETRIC = ('RandomGaussianBlur', 'RandomColorJitter', 'RandomGrayscale')


def transform(cfg: Config, name: str) -> dict:
    return next(x for x in cfg.train_dataloader.dataset.pipeline if x.type.endswith(name))


def without_photometric(cfg: Config) -> Config:
    dataset = cfg.train_dataloader.dataset
    dataset.pipeline = [x for x in dataset.pipeline if not x.type.endswith(PHOTOMETRIC)]
    return cfg


@pytest.mark.parametrize('by_epoch', [True, False])
def test_the_images_are_those_of_the_first_batch_of_a_run(tmp_path, by_epoch):
    cfg = tiny_config(tmp_path)
    if not by_epoch:
        cfg.train_dataloader.sampler.type = 'mmcrosscl.SeededInfiniteSampler'
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
    cfg.randomness.seed = 7
    cfg.launcher = 'none'
    batch = next(iter(build_runner(cfg).train_dataloader))
    items = first_items(cfg, 4, 7)
    for view in range(2):
        drawn = np.stack([item['inputs'][view] for item in items])
        assert np.array_equal(drawn, batch['inputs'][view].permute(0, 2, 3, 1).numpy())
    assert [x['data_samples'].img_path for x in items] == [
        x.img_path for x in batch['data_samples']
    ]
    other = [item['data_samples'].img_path for item in first_items(cfg, 4, 8)]
    assert other != [item['data_samples'].img_path for item in items]


def test_the_views_are_those_that_the_model_receives(tmp_path):
    cfg = tiny_config(tmp_path)
    for name in PHOTOMETRIC:
        transform(cfg, name).update(on_device=True, prob=1.0)
    for item in first_items(cfg, 3, 0):
        inputs = [torch.from_numpy(view).permute(2, 0, 1)[None] for view in item['inputs']]
        batch = dict(inputs=inputs, data_samples=[item['data_samples']])
        received = ViewPreprocessor()(batch)['inputs']
        for view, tensor, loaded in zip(seen_views(item), received, item['inputs']):
            assert np.array_equal(view, tensor[0].permute(1, 2, 0).numpy())
            assert not np.array_equal(view, loaded)


@pytest.mark.parametrize('flip_prob', [0.0, 1.0])
def test_the_crops_are_where_the_views_come_from(tmp_path, flip_prob):
    cfg = without_photometric(tiny_config(tmp_path))
    transform(cfg, 'TwoCrops').flip_prob = flip_prob
    for item in first_items(cfg, 3, 0):
        sample = item['data_samples']
        assert ('flipped' in title_of(sample)) == bool(flip_prob)
        for view, crop in zip(item['inputs'], crops_in_image(sample).astype(int)):
            expected = resized_crop(sample.image, crop, 64)
            assert np.array_equal(view, cv2.flip(expected, 1) if flip_prob else expected)


def saturation(colors: np.ndarray) -> np.ndarray:
    return np.ptp(colors.astype(int), axis=-1)


def test_paired_windows_are_outlined_at_their_regions_in_one_color(tmp_path):
    cfg = without_photometric(tiny_config(tmp_path, images=8))
    # windows without overlap have outlines of one color
    transform(cfg, 'RegionPairs').update(window=40, stride=56, grid=4)
    for path in (tmp_path / 'photos').rglob('*.jpg'):
        Image.new('RGB', (200, 200), (128, 128, 128)).save(path)
    figure = draw_views(cfg, 3)
    items = first_items(cfg, 3, 0)
    # the images are square, so the three columns have the same width
    row_height = views.TITLE + views.VIEW + views.GAP
    assert figure.shape[0] == pytest.approx((views.HEADER + 3 * row_height) * views.DPI, abs=1)
    paired = unpaired = 0
    for row, item in enumerate(items):
        sample = item['data_samples']
        colors = {}
        for column, name in enumerate(('query', 'key'), start=1):
            left = views.GAP + column * (views.GAP + views.VIEW)
            top = views.HEADER + row * row_height + views.TITLE
            scale = views.VIEW / 64
            for index, (x0, y0, _, _) in enumerate(sample.regions(name)):
                x, y = (round((a + b * scale) * views.DPI) for a, b in ((left, x0), (top, y0)))
                around = figure[max(y - 1, 0) : y + 4, max(x - 1, 0) : x + 4].reshape(-1, 3)
                if sample.paired[index]:
                    colors.setdefault(index, []).append(around[saturation(around).argmax()])
                # not at the frames of the views, which are colored too
                elif 2 < x0 < 60 and 2 < y0 < 60:
                    assert saturation(around).max() < 10
                    unpaired += 1
        for query_color, key_color in colors.values():
            assert min(saturation(query_color), saturation(key_color)) > 100
            assert np.abs(query_color.astype(int) - key_color).max() < 40
            paired += 1
    assert paired > 5 and unpaired > 5


def states() -> list:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


def test_the_random_states_are_unchanged_and_the_figure_is_reproducible(tmp_path):
    cfg = tiny_config(tmp_path)
    # an order and augmentation without seeds of their own
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    first = draw_views(cfg, 2)
    np.random.rand(3), torch.rand(3), random.random()
    before = states()
    assert np.array_equal(draw_views(cfg, 2), first)
    assert states() == before
    assert not np.array_equal(draw_views(cfg, 2, seed=1), first)


def test_fewer_images_than_the_count_are_drawn(tmp_path):
    cfg = tiny_config(tmp_path, images=3)
    cfg.train_dataloader.sampler.type = 'mmcrosscl.SeededInfiniteSampler'
    assert len({item['data_samples'].img_path for item in first_items(cfg, 9, 0)}) == 3


def test_wrapped_datasets_are_drawn(tmp_path):
    cfg = tiny_config(tmp_path, images=3)
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[dataset] * 2)
    )
    assert all(item['data_samples'].image.ndim == 3 for item in first_items(cfg, 12, 0))


def test_a_broken_image_is_replaced_and_named(tmp_path):
    cfg = tiny_config(tmp_path, images=3)
    (tmp_path / 'photos/broken $x$\n.jpg').write_bytes(b'text')
    titles = [title_of(item['data_samples']) for item in first_items(cfg, 4, 0)]
    assert sum('replaces broken $x$\n.jpg, which cannot be read' in title for title in titles) == 1
    assert draw_views(cfg, 4).shape[2] == 3


def test_the_title_has_the_number_of_paired_windows():
    sample = ViewPairSample(metainfo=dict(img_path=f'a/{"b" * 80}.jpg'))
    sample.paired = np.array([True, False, True])
    assert title_of(sample) == f'{"b" * 29}…{"b" * 26}.jpg · 2 of 3 windows paired'
    sample.paired = np.zeros(36, bool)
    assert title_of(sample).endswith('.jpg · none of 36 windows paired')


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda cfg: transform(cfg, 'TwoCrops').update(crop_ratio_range=(0.01, 0.01)),
            'none of the 2 images has',
        ),
        (
            lambda cfg: transform(cfg, 'RegionPairs').update(window=300),
            'no window lies within the query views',
        ),
    ],
)
def test_images_without_paired_windows_are_drawn_with_a_warning(tmp_path, capsys, change, message):
    cfg = tiny_config(tmp_path)
    change(cfg)
    assert draw_views(cfg, 2).shape[2] == 3
    printed = capsys.readouterr().out
    assert f'warning: {message}' in printed and 'reduce the window of RegionPairs' in printed


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda cfg: cfg.pop('train_dataloader'), 'folder.py has no train_dataloader; pass a'),
        (lambda cfg: cfg.train_dataloader.pop('sampler'), "cannot be built .'sampler'.; correct"),
        (lambda cfg: cfg.train_dataloader.dataset.update(data_root='absent/'), 'does not exist'),
        (
            lambda cfg: cfg.train_dataloader.dataset.pipeline.pop(),
            'does not return views, because its pipeline has no mmcrosscl.PackViews; pass a config',
        ),
        (
            lambda cfg: cfg.train_dataloader.dataset.pipeline.pop(5),
            "have no 'query_regions'; add mmcrosscl.RegionPairs",
        ),
        (
            lambda cfg: cfg.train_dataloader.dataset.update(extensions=['.xyz']),
            'contains no images',
        ),
    ],
)
def test_a_config_without_pre_training_data_is_refused(tmp_path, change, message):
    cfg = tiny_config(tmp_path)
    change(cfg)
    with pytest.raises(InputError, match=message):
        draw_views(cfg)


def test_a_detection_config_is_refused():
    cfg = load_config('configs/detection/mask-rcnn_r50_fpn_1x_coco.py')
    with pytest.raises(InputError, match='the training dataset of .* cannot be built .*; correct'):
        draw_views(cfg)


def test_only_broken_images_are_refused(tmp_path):
    cfg = tiny_config(tmp_path, images=2)
    for path in (tmp_path / 'photos').rglob('*.jpg'):
        path.write_bytes(b'text')
    with pytest.raises(InputError, match='images in a row cannot be read'):
        draw_views(cfg)


@pytest.mark.parametrize('settings', [dict(count=0), dict(count=101), dict(seed=-1)])
def test_invalid_numbers_are_refused(tmp_path, settings):
    with pytest.raises(InputError, match='set a count from 1 to 100 and a seed from 0 to'):
        draw_views(tiny_config(tmp_path), **settings)
