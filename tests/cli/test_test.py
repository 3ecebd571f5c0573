"""The command `mmcrosscl test`."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmcrosscl.datasets.demo import write_demo_objects
from mmcrosscl.registry import MODELS
from tests.checkpoints.makers import crosscl
from tests.evaluation.images import write_images

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path):
    """Write a user's config for k-nearest neighbors that inherits the config of mmcrosscl."""
    for split, count in (('train', 4), ('val', 2)):
        write_images(tmp_path / split, count, seed=count)
    torch.save({'state_dict': crosscl().state_dict()}, tmp_path / 'epoch_1.pth')
    path = tmp_path / 'mine.py'
    path.write_text(f"""
_base_ = '{ROOT}/configs/benchmarks/r50_8xb64-knn_in1k.py'
images = dict(
    _delete_=True,
    type='CustomDataset',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
)
loader = dict(num_workers=0, persistent_workers=False)
model = dict(
    backbone=dict(depth=18),
    num_classes=3,
    bank=dict(**loader, dataset=dict(**images, data_root='{tmp_path}/train')),
)
test_dataloader = dict(**loader, dataset=dict(**images, data_root='{tmp_path}/val'))
test_evaluator = dict(topk=(1,))
work_dir = '{tmp_path}/work'
""")
    return path


def test_neighbors_need_no_trained_model(command, config):
    done = command('test', config, '--cfg-options', f'pretrained={config.parent}/epoch_1.pth')
    assert done.status == 0 and 'accuracy/top1: 100' in done.out + done.err


@pytest.mark.parametrize('resume', [False, True])
def test_testing_needs_no_training_data(command, tmp_path, resume):
    """A machine may have only val2017, without train2017."""
    write_demo_objects(tmp_path / 'objects', train=1, val=2)
    config = tmp_path / 'mine.py'
    config.write_text(f"""
_base_ = '{ROOT}/configs/detection/faster-rcnn_r18_demo.py'
train_dataloader = dict(dataset=dict(data_root='{tmp_path}/gone/'))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root='{tmp_path}/objects/'),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{tmp_path}/objects/annotations/val.json')
test_evaluator = val_evaluator
work_dir = '{tmp_path}/work'
resume = {resume}
""")
    # the config of the training, which a test must not replace
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work/mine.py').write_text('# of the training')
    model = Config.fromfile(config).model
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.save({'state_dict': MODELS.build(model).state_dict()}, tmp_path / 'detector.pth')
    done = command('test', config, tmp_path / 'detector.pth')
    assert done.status == 0, done.err
    assert 'Iter(test) [1/1]' in done.out + done.err
    # a test does not write the marker of a training run
    assert not (tmp_path / 'work/run.json').exists()
    assert (tmp_path / 'work/mine.py').read_text() == '# of the training'
    (tested,) = (tmp_path / 'work').glob('*/mine.py')
    assert Config.fromfile(tested).load_from == str(tmp_path / 'detector.pth')


@pytest.mark.parametrize(
    'words, complaint',
    [
        (
            ['gone.py'],
            'config gone.py does not exist; pass a config file, such as a file in configs/',
        ),
        (
            ['configs/crosscl/r50_8xb32.py'],
            'has no test_dataloader; pass a config that defines a test',
        ),
        (
            ['configs/detection/retinanet_r50_fpn_1x_coco.py'],
            'tests a trained model; pass the checkpoint of the model after the config',
        ),
        (
            ['configs/detection/retinanet_r50_fpn_1x_coco.py', 'gone.pth'],
            'checkpoint gone.pth does not exist',
        ),
    ],
)
def test_invalid_input_prints_one_sentence(command, words, complaint):
    done = command('test', *words)
    assert done.status == 1
    assert done.err.startswith('error: ') and done.err.endswith(f'{complaint}\n')
    assert len(done.err.splitlines()) == 1
