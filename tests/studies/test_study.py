import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mmcrosscl.engine import read_config
from mmcrosscl.errors import InputError
from mmcrosscl.studies import Study, create_study
from mmcrosscl.studies.study import read_study, write_study
from tests.evaluation.checkpoints import write_detector
from tests.studies.data import write_data

PRETRAINED = dict(type='Pretrained', checkpoint='torchvision://resnet18')


@pytest.fixture(scope='module')
def settings(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp('study'), train=40)


def ids(coco: dict) -> set:
    return {image['id'] for image in coco['images']}


def test_the_validation_part_is_in_no_subset(settings, tmp_path):
    study, files = create_study(**{**settings, 'labels': [8, 0.5], 'seeds': 3})
    # a fifth of 40 images is for validation, and shares are those of all images
    assert study.labels == (8, 20) and len(files['val']['images']) == 8
    for seed in range(3):
        small, large = (ids(files[f'train.{seed}@{count}']) for count in study.labels)
        assert small < large and not large & ids(files['val'])
        assert (len(small), len(large)) == (8, 20)
    assert ids(files['train.0@8']) != ids(files['train.1@8'])
    write_study(study, files, tmp_path)
    written, given = (
        json.loads(Path(path).read_text())
        for path in (tmp_path / 'labels/test.json', settings['test'])
    )
    assert written['images'] == given['images']
    # the file numbers the classes from 0
    assert [(a['bbox'], a['category_id'] - 1) for a in written['annotations']] == [
        (a['bbox'], a['category_id']) for a in given['annotations']
    ]


def test_a_config_without_a_training_is_refused(settings, tmp_path):
    base = Path(settings['detector']).resolve()
    (tmp_path / 'mine.py').write_text(f"_base_ = '{base}'\ntrain_dataloader = None\n")
    with pytest.raises(InputError, match=r'mine\.py has no train_dataloader; pass a complete'):
        create_study(**{**settings, 'detector': tmp_path / 'mine.py'})


def test_a_study_is_extended_by_seeds(settings, tmp_path):
    write_study(*create_study(**{**settings, 'seeds': 1}), tmp_path)
    before = {path: path.read_text() for path in (tmp_path / 'labels').iterdir()}
    write_study(*create_study(**{**settings, 'seeds': 2}), tmp_path)
    assert Study.from_json((tmp_path / 'study.json').read_text()).seeds == 2
    assert all(path.read_text() == text for path, text in before.items())
    assert {path.name.split('@')[0] for path in (tmp_path / 'labels').iterdir()} >= {'train.1'}
    with pytest.raises(InputError, match=r'contains a study with --seeds 2, not 1; set another'):
        write_study(*create_study(**{**settings, 'seeds': 1}), tmp_path)


@pytest.mark.parametrize(
    ('name', 'more'),
    [('arms', ['global', 'random', 'crosscl']), ('labels', [8, 12, 20]), ('rates', [1e-3, 5e-4])],
)
def test_a_study_is_extended_by_arms_labels_and_rates(settings, tmp_path, name, more):
    study, files = create_study(**settings)
    write_study(study, files, tmp_path)
    before = {path: path.read_text() for path in (tmp_path / 'labels').iterdir()}
    write_study(*create_study(**{**settings, name: more}), tmp_path)
    extended = read_study(tmp_path)
    assert getattr(extended, name) == tuple(more)
    assert {job.id for job in extended.plan.jobs()} > {job.id for job in study.plan.jobs()}
    assert all(path.read_text() == text for path, text in before.items())
    old, new = (' '.join(map(str, values)) for values in (more, settings[name]))
    with pytest.raises(InputError, match=f'contains a study with --{name} {old}, not {new}; set'):
        write_study(study, files, tmp_path)
    assert read_study(tmp_path) == extended


def test_a_study_whose_labels_have_changed_is_not_extended(tmp_path):
    settings = write_data(tmp_path / 'data', train=40)
    work_dir = tmp_path / 'study'
    write_study(*create_study(**{**settings, 'seeds': 1}), work_dir)
    before = {path: path.read_text() for path in work_dir.rglob('*.json')}
    path = Path(settings['train'])
    coco = json.loads(path.read_text())
    coco['annotations'] = [a for a in coco['annotations'] if a['image_id'] != 3]
    path.write_text(json.dumps(coco))
    extended = create_study(**{**settings, 'seeds': 2})
    with pytest.raises(InputError, match='differs from the labels in .*train.json and .*val.json'):
        write_study(*extended, work_dir)
    assert {path: path.read_text() for path in work_dir.rglob('*.json')} == before


def test_a_study_is_read_as_it_was_written(settings, tmp_path):
    study, files = create_study(**settings)
    write_study(study, files, tmp_path)
    assert Study.from_json((tmp_path / 'study.json').read_text()) == study
    assert study.classes == ('brick', 'cat', 'coffee', 'coins', 'grass', 'gravel')
    write_study(study, files, tmp_path)
    with pytest.raises(InputError, match='contains a study with --fine-tune-iters 2, not 5; set'):
        write_study(replace(study, fine_tune_iters=5), files, tmp_path)
    with pytest.raises(InputError, match='contains a study with the classes brick cat .*, not a;'):
        write_study(replace(study, classes=('a',)), files, tmp_path)


def test_the_default_rates_are_multiples_of_that_of_the_detector(settings):
    study, _ = create_study(**{**settings, 'rates': None})
    # the config of the demo has 5e-4 and no base batch size
    assert study.rates == pytest.approx((1.25e-4, 2.5e-4, 5e-4, 1e-3))


@pytest.mark.parametrize('place', ['photos', 'train'])
def test_a_test_image_among_the_training_images_is_refused(tmp_path, place):
    settings = write_data(tmp_path)
    copied = tmp_path / ('photos' if place == 'photos' else 'objects/train') / '0005.jpg'
    shutil.copy(tmp_path / 'objects/val/0001.jpg', copied)
    with pytest.raises(InputError) as error:
        create_study(**settings)
    message = str(error.value)
    assert message.startswith('1 test image is also among the training images')
    assert f'{tmp_path}/objects/val/0001.jpg  =  {copied}' in message


def empty_classes(settings):
    path = Path(settings['test'])
    coco = json.loads(path.read_text())
    coco['categories'].append(dict(id=9, name='zebra'))
    path.write_text(json.dumps(coco))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(arms=['crossc']), 'arm crossc is unknown'),
        (dict(arms=['random', 'random']), 'use each name only once'),
        (
            dict(labels=[12, 25], unlabeled='absent'),
            '^25 labeled images are requested, but 24 of the 30 training images are available, '
            'because a fifth is kept for choosing the learning rate; reduce --labels$',
        ),
        (dict(labels=[2]), 'has no box of the class'),
        (dict(unlabeled='absent'), 'absent'),
        (dict(train='absent.json'), r'absent\.json does not exist'),
        (dict(detector='absent.py'), r'absent\.py does not exist'),
        (dict(arms=['weights=absent.pth']), r'absent\.pth does not exist'),
        (empty_classes, 'has the class zebra, which .* lacks'),
        (dict(detector='mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'), 'has no segmentation'),
        (dict(seeds=0), '^--seeds is 0; set a number of at least 1$'),
        (dict(pretrain_iters=0), '^--pretrain-iters is 0'),
        (dict(pretrain_batch=-3), '^--pretrain-batch is -3'),
        (dict(fine_tune_iters=-5), '^--fine-tune-iters is -5'),
        (dict(fine_tune_batch=0), '^--fine-tune-batch is 0'),
        (dict(rates=[0.0]), r'^--rates has the value 0.0; set finite values above 0$'),
        (dict(rates=[float('nan')]), '^--rates has the value nan'),
        (dict(rates=[1e-3, 1.0000001e-3]), '^--rates has the value 0.001 twice; use each value'),
        (dict(labels=[float('nan')]), '^--labels has the share nan%; set shares from 0 % to 100 %'),
    ],
)
def test_invalid_settings_are_refused(tmp_path, change, message):
    settings = write_data(tmp_path)
    if callable(change):
        change(settings)
        change = {}
    with pytest.raises(InputError, match=message):
        create_study(**{**settings, **change})


@pytest.mark.parametrize(
    ('arm', 'changes', 'accepted'),
    [
        ('weights', dict(), False),
        ('crosscl+weights', dict(), False),
        ('weights', dict(load_from='x.pth'), True),
        ('crosscl+weights', dict(load_from='x.pth'), True),
        ('weights', dict(pretrained='x.pth'), True),
        # the pre-training takes only the backbone and the neck from the config
        ('crosscl+weights', dict(pretrained='x.pth'), False),
        ('crosscl+weights', dict(backbone=PRETRAINED), True),
        ('weights', dict(backbone=PRETRAINED), True),
        ('weights=FILE', dict(), True),
        ('random', dict(), True),
    ],
)
def test_an_arm_without_its_weights_is_refused(settings, tmp_path, arm, changes, accepted):
    cfg = read_config(settings['detector'])
    cfg.pretrained = changes.get('pretrained')
    cfg.load_from = str(tmp_path / changes['load_from']) if 'load_from' in changes else None
    cfg.model.backbone.init_cfg = changes.get('backbone')
    cfg.dump(tmp_path / 'mine.py')
    write_detector(tmp_path / 'x.pth')
    arms = ['crosscl', arm.replace('FILE', str(tmp_path / 'x.pth'))]
    arguments = {**settings, 'detector': str(tmp_path / 'mine.py'), 'arms': arms}
    if accepted:
        create_study(**arguments)
        return
    message = (
        f"the arm {arm} starts from the weights that the detector's config loads, but "
        f'{tmp_path}/mine.py has neither load_from nor an init_cfg of the backbone with a '
        f'checkpoint; set one of them, or pass {arm}=FILE'
    )
    with pytest.raises(InputError, match=re.escape(message)):
        create_study(**arguments)


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"arms": []}'])
def test_the_study_of_another_release_is_refused(tmp_path, text):
    (tmp_path / 'study.json').write_text(text)
    with pytest.raises(InputError, match=r'study\.json is not the file of a study of this release'):
        read_study(tmp_path)
