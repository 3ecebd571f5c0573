import json

import numpy as np
import pytest

from mmcrosscl.datasets import ObjectDataset, find_images, objects
from mmcrosscl.datasets.demo import write_demo_objects
from mmcrosscl.errors import InputError


@pytest.fixture
def root(tmp_path):
    write_demo_objects(tmp_path / 'objects', train=2, val=6)
    return tmp_path / 'objects'


def change(root, function):
    path = root / 'annotations/val.json'
    labels = json.loads(path.read_text())
    function(labels)
    path.write_text(json.dumps(labels))


def dataset(root, **settings):
    return ObjectDataset('annotations/val.json', str(root), data_prefix='val', **settings)


def test_boxes_are_those_of_the_file(root):
    labels = json.loads((root / 'annotations/val.json').read_text())
    found = dataset(root)
    assert len(found) == 6
    for info in (found.get_data_info(i) for i in range(6)):
        number = int(info['img_path'].rpartition('/')[2][:4])
        boxes = [a['bbox'] for a in labels['annotations'] if a['image_id'] == number]
        expected = [[x, y, x + w, y + h] for x, y, w, h in boxes]
        assert info['boxes'].tolist() == expected


def test_images_are_chosen_at_equal_distances(root):
    chosen = [info['img_path'] for info in map(dataset(root, max_images=3).get_data_info, range(3))]
    every = [info['img_path'] for info in map(dataset(root).get_data_info, range(6))]
    assert chosen == [every[0], every[2], every[5]]


def test_crowds_are_omitted_and_boxes_are_clipped(root, monkeypatch):
    def edit(labels):
        first = labels['annotations'][0]
        labels['annotations'] = [
            dict(first, id=1, bbox=[-10, 150, 30, 30]),
            dict(first, id=2, bbox=[0, 0, 20, 20], iscrowd=1),
            dict(first, id=3, bbox=[200, 10, 20, 20]),
            dict(first, id=4, bbox=[5, 5, 0, 20]),
        ]

    change(root, edit)
    logged = []
    monkeypatch.setattr(objects, 'print_log', lambda text, *args, **kwargs: logged.append(text))
    info = dataset(root).get_data_info(0)
    assert np.array_equal(info['boxes'], [[0, 150, 20, 160]])
    assert '2 boxes of ' in logged[0] and 'annotation 3 of ' in logged[0]


@pytest.mark.parametrize(
    ('edit', 'message'),
    [
        (lambda labels: labels['annotations'].clear(), 'contains no box within an image'),
        (lambda labels: labels.pop('images'), 'is not in COCO format'),
        (lambda labels: labels['annotations'][0].pop('bbox'), 'is not in COCO format'),
        (lambda labels: labels['annotations'][0].update(bbox=[1, 2]), 'is not in COCO format'),
        (lambda labels: labels['annotations'][0].update(image_id=[]), 'is not in COCO format'),
        (lambda labels: labels['images'][0].update(width=None), 'is not in COCO format'),
    ],
)
def test_a_file_without_boxes_is_refused(root, edit, message):
    change(root, edit)
    with pytest.raises(InputError, match=message):
        dataset(root)


def test_a_file_that_is_not_json_is_refused(root):
    (root / 'annotations/val.json').write_text('{"images": [')
    with pytest.raises(InputError, match='cannot be read as JSON'):
        dataset(root)


def test_a_missing_file_is_named(root):
    with pytest.raises(InputError, match=r'absent\.json does not exist'):
        ObjectDataset('annotations/absent.json', str(root), data_prefix='val')


@pytest.mark.parametrize('place', ['val', 'images', 'annotations', '..'])
def test_images_are_found_beside_the_annotations(tmp_path, place):
    ann_file = tmp_path / 'annotations/instances_val.json'
    ann_file.parent.mkdir()
    ann_file.write_text(
        json.dumps(dict(images=[dict(id=1, file_name='a.jpg')], annotations=[], categories=[]))
    )
    folder = ann_file.parent / '..' if place == '..' else tmp_path / place
    folder.mkdir(exist_ok=True)
    (folder / 'a.jpg').touch()
    assert (find_images(ann_file) / 'a.jpg').samefile(folder / 'a.jpg')


def test_images_that_are_nowhere_are_named(tmp_path):
    (tmp_path / 'val.json').write_text(
        json.dumps(dict(images=[dict(id=1, file_name='a.jpg')], annotations=[], categories=[]))
    )
    with pytest.raises(InputError, match=r'a\.jpg, the first image .* --images'):
        find_images(tmp_path / 'val.json')


def test_a_file_without_images_is_refused(tmp_path):
    (tmp_path / 'val.json').write_text(json.dumps(dict(images=[], annotations=[])))
    with pytest.raises(InputError, match=r'val\.json has no images; pass a COCO file with images'):
        find_images(tmp_path / 'val.json')


def test_images_with_the_same_id_are_refused(tmp_path):
    images = [dict(id=1, file_name='a.jpg'), dict(id=1, file_name='b.jpg')]
    (tmp_path / 'val.json').write_text(json.dumps(dict(images=images, annotations=[])))
    with pytest.raises(InputError, match='two images with the id 1'):
        find_images(tmp_path / 'val.json')
