"""The warning of labels that no class of the config names."""

import json

import pytest
from mmengine.registry import init_default_scope

from mmcrosscl.datasets.demo import write_demo_objects
from mmcrosscl.engine import ResumableRunner, build_runner, load_config
from mmcrosscl.engine.runner.unknown_categories import unknown_categories
from mmcrosscl.errors import InputError

CLASSES = ('brick', 'cat', 'coffee', 'coins', 'grass', 'gravel')


@pytest.fixture(scope='module')
def objects(tmp_path_factory):
    folder = tmp_path_factory.mktemp('categories') / 'objects'
    write_demo_objects(folder, train=24, val=2)
    return folder


def dataset(objects, classes=None, **settings):
    from mmdet.registry import DATASETS

    init_default_scope('mmdet')
    metainfo = dict(metainfo=dict(classes=classes)) if classes else {}
    defaults = dict(
        type='CocoDataset',
        ann_file=f'{objects}/annotations/train.json',
        data_prefix=dict(img=f'{objects}/train'),
        pipeline=[],
    )
    return DATASETS.build(defaults | metainfo | settings)


def without(objects, classes):
    """Return the number of images, and of those that show none of the classes."""
    coco = json.loads((objects / 'annotations/train.json').read_text())
    ids = {each['id'] for each in coco['categories'] if each['name'] in classes}
    shown = {each['image_id'] for each in coco['annotations'] if each['category_id'] in ids}
    return len(coco['images']), len(coco['images']) - len(shown)


@pytest.mark.parametrize('filter_cfg', [None, dict(filter_empty_gt=True)])
def test_categories_that_are_no_class_of_coco_are_named(objects, filter_cfg):
    """The default classes are those of COCO, which include the cat."""
    found = dataset(objects, filter_cfg=filter_cfg)
    images, empty = without(objects, {'cat'})
    assert 0 < empty < images and len(found) == images - (empty if filter_cfg else 0)
    assert unknown_categories(found) == [
        f'5 of the 6 categories with boxes in {objects}/annotations/train.json are not among the '
        'classes of the config (brick, coffee, coins, …), so their boxes are not used, and '
        f'{empty} of {images} images have no other boxes; to use them, set '
        'metainfo=dict(classes=...) of the dataset and num_classes of the model'
    ]


def test_known_categories_are_no_warning(objects, tmp_path):
    assert unknown_categories(dataset(objects, CLASSES)) == []
    # nor is a category without boxes, such as the parent of the others
    coco = json.loads((objects / 'annotations/train.json').read_text())
    coco['categories'].append(dict(id=99, name='object'))
    (tmp_path / 'train.json').write_text(json.dumps(coco))
    parent = dataset(objects, CLASSES, ann_file=f'{tmp_path}/train.json')
    assert unknown_categories(parent) == []
    assert unknown_categories([1, 2]) == []


def test_datasets_within_wrappers_are_checked(objects):
    from mmdet.datasets import ConcatDataset, MultiImageMixDataset
    from mmengine.dataset import RepeatDataset

    fine, bad = dataset(objects, CLASSES), dataset(objects, CLASSES[1:])
    joined = ConcatDataset([fine, bad], ignore_keys=['classes', 'palette'])
    (warning,) = unknown_categories(joined)
    for wrapper in (RepeatDataset(bad, 2), MultiImageMixDataset(bad, [])):
        assert unknown_categories(wrapper) == [warning]
    assert warning.startswith('1 of the 6 categories') and '(brick)' in warning


@pytest.mark.parametrize('wrapped', [False, True])
@pytest.mark.parametrize(
    ('classes', 'settings', 'message'),
    [
        (
            ('zebra', 'dog', 'sheep', 'cow'),
            dict(filter_empty_gt=True),
            'has boxes of a class of the config: its categories are brick, cat, coffee, …, and '
            'the classes are zebra, dog, sheep, …; set metainfo=',
        ),
        (CLASSES, dict(min_size=10**6), "remains with filter_cfg={'min_size': 1000000}; correct"),
    ],
)
def test_a_dataset_of_which_no_image_remains_is_one_sentence(
    objects, classes, settings, message, wrapped
):
    config = dict(
        type='mmdet.CocoDataset',
        ann_file=f'{objects}/annotations/train.json',
        data_prefix=dict(img=f'{objects}/train'),
        metainfo=dict(classes=classes),
        filter_cfg=settings,
        pipeline=[],
    )
    if wrapped:
        config = dict(type='RepeatDataset', times=2, dataset=config)
    sampler = dict(type='DefaultSampler', shuffle=True)
    with pytest.raises(InputError) as caught:
        ResumableRunner.build_dataloader(dict(dataset=config, batch_size=1, sampler=sampler))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f'no image of {objects}/annotations/train.json ')


@pytest.mark.slow(20)
def test_training_warns_once(objects, tmp_path, capsys):
    loader = {'num_workers': 0, 'persistent_workers': False, 'batch_size': 1}
    options = {
        'train_dataloader': loader,
        'train_dataloader.dataset.data_root': f'{objects}/',
        'train_dataloader.dataset.metainfo.classes': ['cat', 'zebra'],
        'pretrained': None,
        'train_cfg.max_iters': 1,
        'val_dataloader': None,
        'val_evaluator': None,
        'val_cfg': None,
    }
    config = 'configs/detection/faster-rcnn_r18_demo.py'
    build_runner(load_config(config, work_dir=tmp_path, options=options)).train()
    out = capsys.readouterr().out
    assert out.index('Training starts.') < out.index('WARNING: 5 of the 6 categories ')
    assert out.count('are not among the classes') == 1
