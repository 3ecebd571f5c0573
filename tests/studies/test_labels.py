import copy
import json

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from torch import tensor

from mmcrosscl.datasets import read_coco, write_coco
from mmcrosscl.errors import InputError
from mmcrosscl.studies.labels import class_names, unify_labels

CLASSES = ('cat', 'dog', 'owl')
COCO = dict(
    images=[
        dict(id='a', file_name='a.jpg', width=64, height=64),
        dict(id='b', file_name='b.jpg', width=64, height=64),
    ],
    annotations=[
        dict(id=0, image_id='a', category_id=7, bbox=[1, 2, 30, 40]),
        dict(id=0, image_id='b', category_id=4, bbox=[5, 5, 20, 20], iscrowd=0, area=400),
        dict(id=9, image_id='b', category_id=4, bbox=[30, 30, 20, 20]),
        dict(id=8, image_id='absent', category_id=4, bbox=[0, 0, 9, 9]),
    ],
    # neither sorted by id nor by name, and no dog is labeled
    categories=[dict(id=7, name='owl'), dict(id=5, name='dog'), dict(id=4, name='cat')],
)


def read(coco, folder):
    path = folder / 'labels.json'
    path.write_text(json.dumps(coco))
    return read_coco(path), str(path)


def test_the_labels_of_any_order_and_numbering_are_evaluated_correctly(tmp_path):
    """The result of a detector that finds all objects is perfect."""
    labels, path = read(COCO, tmp_path)
    assert list(class_names(labels, path).values()) == ['cat', 'dog', 'owl']
    write_coco(unify_labels(labels, path, CLASSES), path)
    dataset = CocoDataset(
        ann_file=path, metainfo=dict(classes=CLASSES), data_prefix=dict(img=''), test_mode=True
    )
    metric = CocoMetric(ann_file=path, metric='bbox')
    metric.dataset_meta = dataset.metainfo
    found = []
    for info in (dataset.get_data_info(index) for index in range(len(dataset))):
        boxes = np.array([each['bbox'] for each in info['instances']], np.float32)
        numbers = [each['bbox_label'] for each in info['instances']]
        found += numbers
        predictions = dict(
            bboxes=tensor(boxes), scores=tensor([0.9] * len(boxes)), labels=tensor(numbers)
        )
        sample = dict(img_id=info['img_id'], ori_shape=(64, 64), pred_instances=predictions)
        metric.process({}, [sample])
    assert sorted(found) == [0, 0, 2]
    assert metric.evaluate(size=len(dataset))['coco/bbox_mAP'] == pytest.approx(1)


def test_missing_fields_are_added(tmp_path):
    labels = unify_labels(*read(COCO, tmp_path), CLASSES)
    assert [a['id'] for a in labels['annotations']] == [1, 2, 3]
    assert [a['category_id'] for a in labels['annotations']] == [3, 1, 1]
    assert [a['area'] for a in labels['annotations']] == [1200, 400, 400]
    assert {a['iscrowd'] for a in labels['annotations']} == {0}


@pytest.mark.parametrize(
    ('place', 'change', 'message'),
    [
        ('categories', dict(id=None), 'has no categories with an integer id and a name; pass a'),
        ('categories', dict(id='7'), 'has no categories with an integer id and a name'),
        ('categories', dict(name=None), 'has no categories with an integer id and a name'),
        ('categories', dict(id=5), 'has two categories with the id 5; join them'),
        ('categories', dict(name='dog'), 'has two categories with the name dog; join them'),
        ('images', dict(width=None), 'a.jpg of .* has no width and height; add them'),
        ('annotations', dict(category_id=1), 'annotation 0 of .* has the category_id 1, which no'),
        ('annotations', dict(category_id=None), 'has the category_id None'),
        ('annotations', dict(category_id=[7]), r'has the category_id \[7\]'),
    ],
)
def test_unusable_labels_are_refused(tmp_path, place, change, message):
    coco = copy.deepcopy(COCO)
    coco[place][0] = {k: v for k, v in {**coco[place][0], **change}.items() if v is not None}
    with pytest.raises(InputError, match=message):
        unify_labels(*read(coco, tmp_path), CLASSES)


def test_labels_without_objects_or_masks_are_refused(tmp_path):
    with pytest.raises(InputError, match='has no segmentation, which the pipeline of the detector'):
        unify_labels(*read(COCO, tmp_path), CLASSES, masks=True)
    coco = copy.deepcopy(COCO)
    for annotation in coco['annotations']:
        annotation['iscrowd'] = 1
    with pytest.raises(InputError, match='has no labeled objects; pass a file with boxes'):
        unify_labels(*read(coco, tmp_path), CLASSES)


@pytest.mark.parametrize('area', [0, -4.0, None, 'large'])
def test_an_area_that_mmdetection_would_omit_is_replaced(tmp_path, area):
    coco = copy.deepcopy(COCO)
    for annotation in coco['annotations']:
        annotation['area'] = area
    labels, path = read(coco, tmp_path)
    found = unify_labels(labels, path, CLASSES)['annotations']
    assert [annotation['area'] for annotation in found] == [1200, 400, 400]
