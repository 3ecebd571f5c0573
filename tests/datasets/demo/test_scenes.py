import json
import os

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from mmcrosscl.datasets.demo import cutouts, scenes, write_scenes
from mmcrosscl.datasets.demo.cutouts import CLASSES, PACKAGES, open_cutout, split_sources
from mmcrosscl.errors import InputError

needs_packages = pytest.mark.skipif(
    not all(path.is_dir() for path in PACKAGES),
    reason=f'needs: apt-get install {" ".join(PACKAGES.values())}',
)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scenes') / 'photo'
    write_scenes(folder, unlabeled=4, train=30, test=10)
    return folder


def labels(folder, split):
    return json.loads((folder / f'annotations/{split}.json').read_text())


@needs_packages
def test_the_same_arguments_give_the_same_bytes(dataset, tmp_path):
    write_scenes(tmp_path / 'again', unlabeled=2, train=30, test=10)
    for path in (tmp_path / 'again').rglob('*.*'):
        assert path.read_bytes() == (dataset / path.relative_to(tmp_path / 'again')).read_bytes()
    assert len(list((tmp_path / 'again').rglob('*.jpg'))) == 42


@needs_packages
def test_no_process_is_forked(monkeypatch, tmp_path):
    """A fork of a process with threads can deadlock."""
    monkeypatch.setattr(os, 'fork', None)
    write_scenes(tmp_path / 'scenes', unlabeled=30, train=0, test=0)
    assert len(list((tmp_path / 'scenes').rglob('*.jpg'))) == 30


@needs_packages
def test_another_seed_gives_other_scenes(dataset, tmp_path):
    write_scenes(tmp_path / 'other', unlabeled=0, train=1, test=0, seed=1)
    name = 'train/00000.jpg'
    assert (tmp_path / 'other' / name).read_bytes() != (dataset / name).read_bytes()


@needs_packages
def test_boxes_are_within_the_scene_and_have_all_classes(dataset):
    coco = labels(dataset, 'train')
    assert [each['name'] for each in coco['categories']] == list(CLASSES)
    for annotation in coco['annotations']:
        x, y, width, height = annotation['bbox']
        assert x >= 0 and y >= 0 and x + width <= 192 and y + height <= 192
        assert 28 <= max(width, height) <= 110
        assert 0 < annotation['area'] <= width * height
    per_image = np.bincount([annotation['image_id'] for annotation in coco['annotations']])
    assert len(per_image) == 30 and set(per_image) == {2, 3, 4, 5}
    assert len({annotation['category_id'] for annotation in coco['annotations']}) == 10


@needs_packages
def test_no_object_hides_another_one():
    training, _ = split_sources()
    for seed in range(60):
        _, objects = scenes._compose(training, np.random.default_rng(seed))
        for number, (_, (x, y, width, height), _) in enumerate(objects):
            later = np.zeros((192, 192), bool)
            for _, (left, top, right, bottom), _ in objects[number + 1 :]:
                later[top : top + bottom, left : left + right] = True
            # each of up to four other objects may cover a tenth
            assert later[y : y + height, x : x + width].mean() < 0.4


@needs_packages
def test_boxes_are_tight():
    rng = np.random.default_rng(0)
    sources, _ = split_sources()
    for path in [path for paths in sources.cutouts.values() for path in paths[:3]]:
        alpha = np.asarray(scenes._transform(open_cutout(path), rng).getchannel('A')) > 127
        assert alpha[0].any() and alpha[-1].any() and alpha[:, 0].any() and alpha[:, -1].any()


@needs_packages
def test_another_sensor_sees_the_same_scenes_in_gray(dataset, tmp_path):
    write_scenes(tmp_path / 'sensor', unlabeled=0, train=3, test=1, sensor=True)
    assert labels(tmp_path / 'sensor', 'train')['annotations'] == [
        each for each in labels(dataset, 'train')['annotations'] if each['image_id'] < 3
    ]
    gray = np.asarray(Image.open(tmp_path / 'sensor/train/00000.jpg')).astype(int)
    assert abs(gray - gray[..., :1]).max() <= 2
    photo = np.asarray(Image.open(dataset / 'train/00000.jpg')).astype(float)
    # inverted: bright blue is dark
    assert np.corrcoef(gray[..., 0].ravel(), photo[..., 2].ravel())[0, 1] < -0.3


@pytest.mark.parametrize('numbers', [dict(train=-1), dict(seed=-1)])
def test_numbers_below_zero_are_refused(numbers, tmp_path):
    with pytest.raises(InputError, match='is below 0'):
        write_scenes(tmp_path / 'scenes', **numbers)
    assert not (tmp_path / 'scenes').exists()


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(cutouts, 'PACKAGES', {tmp_path / 'absent': 'tuxpaint-stamps-default'})
    with pytest.raises(InputError, match='Debian package tuxpaint-stamps-default.*apt-get install'):
        write_scenes(tmp_path / 'scenes')
    assert not (tmp_path / 'scenes').exists()


@needs_packages
def test_the_config_of_the_scenes_reads_the_dataset(dataset):
    cfg = Config.fromfile('configs/detection/faster-rcnn_r18_scenes.py')
    for split, count in (('train', 30), ('test', 10)):
        settings = cfg[f'{split}_dataloader'].dataset
        assert tuple(settings.metainfo.classes) == tuple(scenes.CLASSES)
        settings.data_root = str(dataset)
        with DefaultScope.overwrite_default_scope('mmdet'):
            built = DATASETS.build(settings)
        assert len(built) == count
        assert built[0]['inputs'].shape == (3, 192, 192)
        assert len(built[0]['data_samples'].gt_instances) > 0
