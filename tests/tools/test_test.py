"""The command that tests, as it is typed."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from tests.checkpoints.makers import crosscl
from tests.evaluation.test_knn import write_images

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, 'argv', ['test.py', *map(str, words)])
        runpy.run_path(str(ROOT / 'tools/test.py'), run_name='__main__')
        return capsys.readouterr()

    return run


@pytest.fixture
def config(tmp_path):
    """Nearest neighbours on a few images, as a user's config that inherits ours."""
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


def test_neighbours_need_no_trained_model(run, config):
    said = run(config, '--cfg-options', f'pretrained={config.parent}/epoch_1.pth')
    assert 'accuracy/top1: 100' in said.out + said.err


@pytest.mark.parametrize(
    'words, complaint',
    [
        (['gone.py'], 'config gone.py does not exist'),
        (['configs/crosscl/r50_8xb32.py'], 'has no test_dataloader; give a config with a test'),
        (
            ['configs/detection/retinanet_r50_fpn_1x_coco.py'],
            'is trained before it is tested; name its checkpoint',
        ),
        (
            ['configs/detection/retinanet_r50_fpn_1x_coco.py', 'gone.pth'],
            'checkpoint gone.pth does not exist',
        ),
    ],
)
def test_bad_input_is_one_sentence(run, words, complaint):
    with pytest.raises(SystemExit) as caught:
        run(*words)
    message = caught.value.code
    assert message.startswith('error: ') and message.endswith(complaint) or complaint in message
    assert '\n' not in message
