"""Every detection config loads a checkpoint, trains and is tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.utils import get_installed_path

from mmcrosscl.engine import build_runner
from mmcrosscl.errors import InputError
from tests.checkpoints.makers import crosscl
from tests.detection import shorten, write_coco, write_voc

pytestmark = pytest.mark.slow

FOLDER = Path('configs/detection')
# those of other data than COCO and VOC have tests of their own
OWN_DATA = ('demo', 'scenes')
CONFIGS = sorted(p.stem for p in FOLDER.glob('*.py') if not p.stem.endswith(OWN_DATA))
FROM_C3 = ('retinanet', 'fcos')


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('pretrained') / 'epoch_200.pth'
    state = crosscl(depth=50).state_dict()
    torch.save({'state_dict': state, 'meta': {}}, path)
    return path, state


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    coco = write_coco(folder, train=2, val=1)
    (coco / 'semi_anns').mkdir()
    labels = (coco / 'annotations/instances_train2017.json').read_bytes()
    for percent in (1, 10):
        (coco / f'semi_anns/instances_train2017.1@{percent}.json').write_bytes(labels)
    return dict(coco=coco, voc0712=write_voc(folder, train=2, val=1))


class Recorder(Hook):
    """Hook that records the weights before training and the metrics of the last evaluation."""

    def before_train(self, runner):
        self.state = {k: v.clone() for k, v in runner.model.state_dict().items()}

    def after_val_epoch(self, runner, metrics):
        self.metrics = metrics


def read(name, data, work_dir, **changes):
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    shorten(cfg, data[name.rpartition('_')[2]])
    cfg.merge_from_dict(dict(work_dir=str(work_dir), launcher='none', **changes))
    return cfg


@pytest.mark.parametrize('name', CONFIGS)
def test_a_detector_loads_the_checkpoint_trains_and_is_tested(name, pretrained, data, tmp_path):
    path, state = pretrained
    cfg = read(name, data, tmp_path, pretrained=str(path))
    runner = build_runner(cfg)
    recorder = Recorder()
    runner.register_hook(recorder, priority='VERY_LOW')
    runner.train()

    c4 = '_c4_' in name
    loaded = [n for n in state if n.startswith('backbone.')]
    if not c4:
        loaded += [n for n in state if n.startswith(('neck.lateral', 'neck.fpn'))]
    assert len(loaded) == 318 + (0 if c4 else 10)
    for source in loaded:
        target = source
        if c4:
            target = source.replace('backbone.layer4', 'roi_head.shared_head.layer4')
        elif name.startswith(FROM_C3):
            for level in (1, 2, 3):
                target = target.replace(f'convs.{level}.conv', f'convs.{level - 1}.conv', 1)
                if target != source:
                    break
        assert torch.equal(recorder.state[target], state[source]), target
    # all layers are trained
    after = runner.model.state_dict()
    frozen = [n for n, p in runner.model.named_parameters() if not p.requires_grad]
    assert not frozen
    assert not torch.equal(after['backbone.conv1.weight'], state['backbone.conv1.weight'])
    assert not torch.equal(after['backbone.bn1.running_mean'], state['backbone.bn1.running_mean'])
    if c4:
        log = next(tmp_path.glob('*/*.log')).read_text()
        assert 0 < log.find('Finish Precise BN, BN stats updated') < log.find('Iter(val)')
    # the detector was tested; an untrained one-stage head detects nothing, so it has no metrics
    assert recorder.metrics or '_r50_fpn' in name and 'rcnn' not in name


def schedule(name):
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    optimizer = cfg.optim_wrapper.optimizer
    warm_up, steps = cfg.param_scheduler
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=16)
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.train_cfg.type == 'IterBasedTrainLoop' and not steps.by_epoch
    assert steps.end == cfg.train_cfg.max_iters and not warm_up.by_epoch
    return cfg.train_cfg.max_iters, steps.milestones, warm_up.end, optimizer.lr, optimizer


def test_the_schedules_are_the_published_ones():
    *one, optimizer = schedule('mask-rcnn_r50_fpn_1x_coco')
    assert one == [90000, [60000, 80000], 1000, 0.02]
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 2.5e-5)
    *two, optimizer = schedule('mask-rcnn_r50_fpn_2x_coco')
    assert two == [180000, [120000, 160000], 1000, 0.02] and optimizer.weight_decay == 2.5e-5
    *voc, optimizer = schedule('faster-rcnn_r50_c4_24k_voc0712')
    assert voc == [24000, [18000, 22000], 100, 0.02]

    cfg = Config.fromfile(FOLDER / 'mask-rcnn_r50_fpn_2x_coco.py')
    resize = cfg.train_dataloader.dataset.pipeline[2]
    assert [short for _, short in resize.scales] == [640, 672, 704, 736, 768, 800]
    cfg = Config.fromfile(FOLDER / 'faster-rcnn_r50_c4_24k_voc0712.py')
    resize = cfg.train_dataloader.dataset.datasets[0].pipeline[2]
    assert [short for _, short in resize.scales] == list(range(480, 801, 32))
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (1333, 800)
    (precise,) = cfg.custom_hooks
    assert precise.interval == cfg.train_cfg.val_interval == 24000
    assert precise.priority == 'ABOVE_NORMAL'


@pytest.mark.parametrize('name', CONFIGS)
def test_normalization_and_strides_match_pre_training(name):
    model = Config.fromfile(FOLDER / f'{name}.py').model
    expected = Config.fromfile('configs/crosscl/r50_8xb32.py').model.data_preprocessor
    preprocessor = model.data_preprocessor
    assert preprocessor.mean == expected.mean and preprocessor.std == expected.std
    assert preprocessor.bgr_to_rgb
    parts = [model.backbone, model.roi_head.get('shared_head')] if 'roi_head' in model else []
    for part in filter(None, parts or [model.backbone]):
        assert part.style == 'pytorch' and part.norm_cfg.type == 'SyncBN' and not part.norm_eval


def test_mmdetections_script_writes_the_annotations_of_the_low_label_configs(tmp_path):
    coco = write_coco(tmp_path, train=100, val=1)
    script = Path(get_installed_path('mmdet'), '.mim/tools/misc/split_coco.py')
    words = f'--data-root {coco} --out-dir {coco}/semi_anns --fold 1'
    subprocess.run([sys.executable, script, *words.split()], check=True, capture_output=True)
    for percent in (1, 10):
        cfg = Config.fromfile(FOLDER / f'mask-rcnn_r50_fpn_{percent}pct_coco.py')
        listed = json.loads((coco / cfg.train_dataloader.dataset.ann_file).read_text())
        # the script samples with replacement
        assert percent / 2 < len(listed['images']) <= percent and listed['annotations']


def test_a_missing_checkpoint_is_an_error_before_training(data, tmp_path):
    cfg = read('retinanet_r50_fpn_1x_coco', data, tmp_path)
    with pytest.raises(InputError, match='checkpoint work_dirs/r50_8xb32/epoch_200.pth does not'):
        build_runner(cfg).train()
