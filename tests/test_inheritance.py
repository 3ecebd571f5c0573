"""Other projects inherit the configs from a clone and from the installed wheel."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.utils import get_installed_path

from mmcrosscl.datasets.demo import write_demo_photos
from tests.checkpoints.makers import crosscl
from tests.detection import write_coco

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FOLDERS = ('crosscl', 'detection', 'benchmarks')
# At least 16 channels: in channels-last memory, oneDNN's gradient of a strided 1×1 convolution with
# fewer input channels writes beyond its buffer (https://github.com/uxlfoundation/oneDNN/issues/6035).
SMALL = """
model = dict(
    queue=dict(length=8),
    backbone=dict(depth=18, base_channels=16, stem_channels=16),
    neck=dict(in_channels=[32, 64, 128], hid_channels=16, out_channels=8),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(data_root='{photos}', data_prefix=''),
)
train_cfg = dict(max_epochs=1)
"""


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'photos'
    write_demo_photos(folder, count=4)
    return folder


@pytest.fixture
def installed(site, tmp_path):
    """Return a function that runs Python in an empty folder, with the wheel, without the clone."""

    def run(*words):
        environment = {**os.environ, 'PYTHONPATH': f'{site}:.', 'OMP_NUM_THREADS': '1'}
        result = subprocess.run(
            [sys.executable, *map(str, words)],
            capture_output=True, text=True, cwd=tmp_path, env=environment,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
        return result.stdout + result.stderr

    return run


def listed(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob('*') if p.suffix in ('.py', '.yml'))


def test_the_wheel_contains_configs_tools_and_index(site):
    mim = site / 'mmcrosscl/.mim'
    assert not any(path.is_symlink() for path in site.rglob('*'))
    assert listed(mim / 'configs') == listed(ROOT / 'configs') and listed(mim / 'configs')
    assert listed(mim / 'tools') == listed(ROOT / 'tools')
    assert os.access(mim / 'tools/dist_train.sh', os.X_OK)
    assert (mim / 'model-index.yml').read_text() == (ROOT / 'model-index.yml').read_text()
    pure = site / 'mmcrosscl/configs'
    assert listed(pure) == listed(ROOT / 'mmcrosscl/configs') and listed(pure / 'crosscl')
    assert not (site / 'tests').exists() and not (site / 'configs').exists()


@pytest.mark.parametrize('folder', FOLDERS)
def test_the_index_names_every_config(folder):
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert index['Import'] == [f'configs/{name}/metafile.yml' for name in FOLDERS]
    contents = yaml.safe_load((ROOT / f'configs/{folder}/metafile.yml').read_text())
    (collection,), models = contents['Collections'], contents['Models']
    assert (
        collection['Paper'].keys() == {'Title', 'URL'} and (ROOT / collection['README']).is_file()
    )
    expected = sorted(str(p.relative_to(ROOT)) for p in (ROOT / f'configs/{folder}').glob('*.py'))
    assert sorted(model['Config'] for model in models) == expected
    for model in models:
        assert model['Name'] == Path(model['Config']).stem
        assert model['In Collection'] == collection['Name']
        assert model['Metadata'].keys() >= {'Training Data', 'Batch Size', 'Architecture'}
        # no weights are published
        assert 'Weights' not in model


def test_importing_the_package_lets_any_mmengine_program_inherit(installed, tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'mmcrosscl::crosscl/r50-fpn-bn_8xb32_in1k.py'\n"
        'model = dict(queue=dict(length=7))\n'
    )
    output = installed(
        '-c',
        'import mmcrosscl\nfrom mmengine.config import Config\n'
        "model = Config.fromfile('mine.py').model\n"
        'print(mmcrosscl.__file__, model.queue.length, model.neck.norm_cfg.type, model.momentum)',
    )
    assert 'site/mmcrosscl/__init__.py 7 BN 0.001' in output


STYLES = {
    'package': "_base_ = 'mmcrosscl::crosscl/r50_8xb32.py'",
    'relative path': "_base_ = '{relative}/configs/crosscl/r50_8xb32.py'",
}


@pytest.mark.parametrize('style', STYLES)
def test_a_text_config_inherits_and_trains(installed, site, photos, tmp_path, style):
    base = STYLES[style].format(relative=os.path.relpath(ROOT, tmp_path))
    (tmp_path / 'mine.py').write_text(
        f'{base}\n{SMALL.format(photos=photos)}'
        'train_pipeline = _base_.train_pipeline\n'
        'train_pipeline[1].scale = 64\n'
        'train_dataloader["dataset"]["pipeline"] = train_pipeline\n'
    )
    output = installed(site / 'mmcrosscl/.mim/tools/train.py', 'mine.py', '--work-dir', 'work')
    assert (tmp_path / 'work/epoch_1.pth').exists() and 'epoch_1.pth\n' in output
    assert 'WARNING' not in output


def test_a_pure_python_config_inherits_and_trains(installed, site, photos, tmp_path):
    (tmp_path / 'mine.py').write_text(f"""
from mmengine.config import read_base
from mmcrosscl.models import CrossCL

with read_base():
    from mmcrosscl.configs.crosscl.r50_8xb32 import *

model.update(type=CrossCL, queue=dict(length=8))
model.backbone.update(depth=18, base_channels=16, stem_channels=16)
model.neck.update(in_channels=[32, 64, 128], hid_channels=16, out_channels=8)
train_pipeline[1].update(scale=64)
train_dataloader.update(batch_size=2, num_workers=0)
train_dataloader.dataset.update(
    data_root='{photos}', data_prefix='', pipeline=train_pipeline)
train_cfg.update(max_epochs=1)
""")
    installed(site / 'mmcrosscl/.mim/tools/train.py', 'mine.py', '--work-dir', 'work')
    assert (tmp_path / 'work/epoch_1.pth').exists()


def test_a_downstream_detection_project_needs_only_a_config(installed, tmp_path):
    """The project has its own dataset class and MMDetection's tools/train.py."""
    torch.manual_seed(0)
    torch.save({'state_dict': crosscl().state_dict()}, tmp_path / 'epoch_200.pth')
    coco = write_coco(tmp_path, train=4, val=1)
    (tmp_path / 'tools').mkdir()
    train = Path(get_installed_path('mmdet'), '.mim/tools/train.py')
    shutil.copy(train, tmp_path / 'tools/train.py')
    (tmp_path / 'parts.py').write_text("""
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS


@DATASETS.register_module()
class Parts(CocoDataset):
    METAINFO = dict(classes=('person', 'bicycle', 'car'))
""")
    (tmp_path / 'mine.py').write_text(f"""
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['parts'])

pretrained = 'epoch_200.pth'
default_hooks = dict(pretrained=dict(type='mmcrosscl.PretrainedHook'))
model = dict(
    backbone=dict(depth=18, init_cfg=None, frozen_stages=-1),
    neck=dict(in_channels=[64, 128, 256, 512]),
    bbox_head=dict(num_classes=3),
)
loader = dict(num_workers=0, persistent_workers=False)
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = test_pipeline[1].scale = (128, 96)
data = dict(type='Parts', data_root='{coco}/')
train_dataloader = dict(**loader, dataset=dict(**data, pipeline=train_pipeline))
val_dataloader = dict(**loader, dataset=dict(**data, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{coco}/annotations/instances_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
""")
    output = installed('tools/train.py', 'mine.py', '--work-dir', 'work')
    assert 'pretrained: epoch_200.pth, CrossCL of mmcrosscl' in output
    assert 'neck.lateral_convs.3  neck.lateral_convs.2' in output
    assert (tmp_path / 'work/epoch_1.pth').exists()


def test_a_downstream_project_inherits_a_detector(installed, site, tmp_path):
    torch.save({'state_dict': crosscl().state_dict()}, tmp_path / 'epoch_200.pth')
    coco = write_coco(tmp_path, train=2, val=1)
    (tmp_path / 'mine.py').write_text(f"""
_base_ = 'mmcrosscl::detection/retinanet_r50_fpn_1x_coco.py'
pretrained = 'epoch_200.pth'
model = dict(backbone=dict(depth=18), neck=dict(in_channels=[64, 128, 256, 512]))
loader = dict(num_workers=0, persistent_workers=False)
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = test_pipeline[1].scale = (128, 96)
data = dict(data_root='{coco}/')
train_dataloader = dict(**loader, dataset=dict(**data, pipeline=train_pipeline))
val_dataloader = dict(**loader, dataset=dict(**data, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{coco}/annotations/instances_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
""")
    output = installed(site / 'mmcrosscl/.mim/tools/train.py', 'mine.py', '--work-dir', 'work')
    assert 'pretrained: epoch_200.pth, CrossCL of mmcrosscl' in output
    assert (tmp_path / 'work/epoch_1.pth').exists()
    assert 'registry tree' not in output
