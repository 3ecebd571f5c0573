import hashlib
import json

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from PIL import Image

from mmcrosscl.datasets.demo.objects import BACKGROUNDS, CLASSES, SIDES, SIZE, write_demo_objects
from mmcrosscl.errors import InputError


def digest(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob('*.*')
    }


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo') / 'objects'
    write_demo_objects(folder, train=60, val=20)
    return folder


def labels(folder, split):
    return json.loads((folder / f'annotations/{split}.json').read_text())


def test_equal_seeds_write_equal_files(folder, tmp_path):
    write_demo_objects(tmp_path / 'again', train=60, val=20)
    write_demo_objects(tmp_path / 'other', train=60, val=20, seed=1)
    first = digest(folder)
    assert first == digest(tmp_path / 'again')
    assert not set(first.values()) & set(digest(tmp_path / 'other').values())
    # no validation image is a training image
    assert len(set(first.values())) == len(first) == 82


def test_mmdetection_reads_all_images_and_objects(folder):
    for split, count in (('train', 60), ('val', 20)):
        dataset = CocoDataset(
            ann_file=f'annotations/{split}.json',
            data_root=str(folder),
            data_prefix=dict(img=f'{split}/'),
            metainfo=dict(classes=tuple(CLASSES)),
        )
        assert len(dataset) == count
        objects = [i for n in range(count) for i in dataset.get_data_info(n)['instances']]
        assert len(objects) == len(labels(folder, split)['annotations'])


def test_objects_have_all_classes_and_sizes_and_lie_in_the_image(folder):
    annotations = labels(folder, 'train')['annotations']
    assert {a['category_id'] for a in annotations} == set(range(len(CLASSES)))
    boxes = np.array([a['bbox'] for a in annotations])
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= SIZE).all()
    sides = np.sqrt(boxes[:, 2] * boxes[:, 3])
    assert sides.min() < 1.3 * SIDES[0] and sides.max() > 0.8 * SIDES[1]
    per_image = np.bincount([a['image_id'] for a in annotations])
    assert per_image.min() >= 1 and per_image.max() == 4
    assert not set(CLASSES.values()) & set(BACKGROUNDS)


def test_objects_of_an_image_do_not_overlap(folder):
    taken = np.zeros((60, SIZE, SIZE), int)
    for a in labels(folder, 'train')['annotations']:
        x, y, w, h = a['bbox']
        taken[a['image_id'], y : y + h, x : x + w] += 1
    assert taken.max() == 1


def test_boxes_enclose_the_objects_tightly(folder, monkeypatch, tmp_path):
    # with white objects on black backgrounds, the white pixels must fill the boxes exactly
    from mmcrosscl.datasets.demo import objects

    def flat(photo, size, rng):
        return Image.new('RGB', size, 'black' if size == (SIZE, SIZE) else 'white')

    monkeypatch.setattr(objects, '_patch', flat)
    write_demo_objects(tmp_path / 'flat', train=30, val=1)
    by_image = {}
    for a in labels(tmp_path / 'flat', 'train')['annotations']:
        by_image.setdefault(a['image_id'], []).append(a['bbox'])
    for image_id, boxes in by_image.items():
        with Image.open(tmp_path / f'flat/train/{image_id:04d}.jpg') as image:
            white = np.asarray(image.convert('L')) > 100
        outside = white.copy()
        for x, y, w, h in boxes:
            inside = white[y : y + h, x : x + w]
            # the object reaches each edge of the box, up to the blur of a JPEG
            assert inside[:3].any() and inside[-3:].any()
            assert inside[:, :3].any() and inside[:, -3:].any()
            outside[max(y - 2, 0) : y + h + 2, max(x - 2, 0) : x + w + 2] = False
        assert not outside.any()


def test_an_existing_folder_is_not_changed(tmp_path):
    with pytest.raises(InputError, match='exists; remove it'):
        write_demo_objects(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_no_files(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError('disk full')

    monkeypatch.setattr(Image.Image, 'save', fail)
    with pytest.raises(OSError, match='disk full'):
        write_demo_objects(tmp_path / 'objects', train=2, val=1)
    assert not list(tmp_path.iterdir())
