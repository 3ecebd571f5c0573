"""Initialization of a detector by its config."""

import re
from pathlib import Path
from types import SimpleNamespace

import mmpretrain.models
import pytest
import torch
from mmdet.models import DetectoRS_ResNet, PyramidVisionTransformer, ResNet, SwinTransformer
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

from mmcrosscl.engine import PretrainedHook, build_runner, load_config, read_config
from mmcrosscl.errors import InputError
from tests.checkpoints.makers import crosscl
from tests.detection import shorten, write_coco

pytestmark = pytest.mark.slow

CONFIG = 'configs/detection/retinanet_r50_fpn_1x_coco.py'
FIRST = 'backbone.conv1.weight'
GONE = dict(type='Pretrained', checkpoint='gone.pth')


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('data'), train=2, val=1)


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    path = tmp_path_factory.mktemp('pretrained') / 'iter_1.pth'
    torch.save({'state_dict': crosscl().state_dict()}, path)
    return path


@pytest.fixture
def run(coco, tmp_path):
    """Train an R18 RetinaNet for an epoch of one step that changes nothing; gives the runner."""

    def run(without=(), backbone=None, preprocessor=None, **changes):
        cfg = Config.fromfile(CONFIG)
        shorten(cfg, coco)
        cfg.merge_from_dict(
            dict(
                model=dict(
                    backbone=dict(depth=18, **(backbone or {})),
                    neck=dict(in_channels=[64, 128, 256, 512]),
                    data_preprocessor=preprocessor or {},
                ),
                optim_wrapper=dict(optimizer=dict(lr=0.0)),
                default_hooks=dict(checkpoint=dict(interval=1)),
                work_dir=str(tmp_path),
                launcher='none',
                val_cfg=None,
                val_dataloader=None,
                val_evaluator=None,
                **changes,
            )
        )
        for name in without:
            cfg.pop(name)
        runner = build_runner(cfg)
        runner.train()
        return runner

    return run


def first(runner_or_path):
    if hasattr(runner_or_path, 'model'):
        return runner_or_path.model.state_dict()[FIRST]
    return torch.load(runner_or_path, weights_only=True)['state_dict'][FIRST]


def test_the_checkpoint_is_one_variable(run, pretrained):
    runner = run(pretrained=str(pretrained))
    assert torch.equal(first(runner), first(pretrained))


def test_the_first_convolution_is_adapted_to_the_images_of_the_detector(run, pretrained, tmp_path):
    means = [123.675, 116.28, 103.53]
    runner = run(
        pretrained=str(pretrained),
        preprocessor=dict(mean=means[::-1], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    )
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    torch.testing.assert_close(first(runner), (first(pretrained) / std).flip(1))
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert "backbone.conv1 is adapted to the model's BGR images with mean=[103.53, 116.28" in log


def test_a_mean_that_remains_different_is_a_warning(run, pretrained, tmp_path):
    run(pretrained=str(pretrained), preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3))
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'WARNING - pretrained: The model reads RGB images with mean=[0, 0, 0]' in log
    assert 'set model.data_preprocessor.mean=[123.675, 116.28, 103.53]' in log


def test_averaging_begins_with_the_checkpoint(run, pretrained):
    runner = run(pretrained=str(pretrained), custom_hooks=[dict(type='EMAHook')])
    (ema,) = [hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook']
    assert torch.equal(ema.ema_model.module.state_dict()[FIRST], first(pretrained))


def logs(work_dir):
    return '\n'.join(path.read_text() for path in work_dir.glob('*/*.log'))


def test_none_is_a_random_start(run, pretrained):
    assert not torch.equal(first(run(pretrained=None)), first(pretrained))


def test_a_resumed_run_and_load_from_are_left_as_they_are(run, pretrained, tmp_path):
    other = first(run(pretrained=None))
    resumed = run(pretrained=str(pretrained), resume=True, train_cfg=dict(max_epochs=2))
    assert resumed.epoch == 2 and torch.equal(first(resumed), other)
    loaded = run(pretrained=None, load_from=str(tmp_path / 'epoch_1.pth'))
    assert torch.equal(first(loaded), other)


@pytest.mark.parametrize('resume', [False, True])
@pytest.mark.parametrize('kind', ['averaged', 'other classes', 'bare'])
def test_the_heads_keep_the_weights_of_load_from(run, pretrained, tmp_path, resume, kind):
    """The detector may be one of COCO, and the backbone is pre-trained on the user's images."""
    detector = tmp_path / 'coco.pth'
    state = run(pretrained=None).model.state_dict()
    if kind == 'other classes':
        state['bbox_head.retina_cls.weight'] = torch.zeros(3, 256, 3, 3)
    average = {f'module.{name}': value for name, value in state.items()}
    average['steps'] = torch.tensor(1000)
    whole = dict(state_dict=state, ema_state_dict=average)
    torch.save(state if kind == 'bare' else whole, detector)
    for path in tmp_path.glob('epoch_*.pth'):
        path.unlink()
    # as load_config sets them for --resume
    start = dict(resume=True, new_run_load_from=str(detector)) if resume else {}
    runner = run(
        pretrained=str(pretrained),
        custom_hooks=[dict(type='EMAHook')],
        **(start or dict(load_from=str(detector))),
    )
    (ema,) = [hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook']
    for weights in (runner.model.state_dict(), ema.ema_model.module.state_dict()):
        assert torch.equal(weights[FIRST], first(pretrained))
        name = 'bbox_head.cls_convs.0.conv.weight'
        assert torch.equal(weights[name], state[name])
    log = logs(tmp_path)
    part = 'part of bbox_head'
    heads, random = (part, part) if kind == 'other classes' else ('bbox_head', 'no module')
    assert f'the weights of {detector} remain in part of neck, {heads}\n' in log
    assert f'tensors are loaded, and random weights remain in {random}\n' in log


def test_a_pre_training_starts_from_load_from_alone(pretrained):
    """The queue and the key encoder would be those of other weights."""
    model = crosscl()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    messages = []
    runner = SimpleNamespace(
        model=model,
        logger=SimpleNamespace(warning=messages.append),
        iter=0,
        cfg=dict(pretrained=str(pretrained), load_from='a.pth', train_cfg={}),
    )
    hook = PretrainedHook()
    hook.after_load_checkpoint(runner, dict(state_dict=before))
    hook.before_train(runner)
    assert messages == [
        'pretrained: not loaded, because a pre-training with load_from starts from that '
        'checkpoint alone; set pretrained=None'
    ]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_nothing_to_resume_from_is_no_random_start(run, pretrained):
    assert torch.equal(first(run(pretrained=str(pretrained), resume=True)), first(pretrained))


def test_a_config_that_does_not_say_is_refused(run):
    with pytest.raises(InputError, match='has no setting `pretrained`; set it to'):
        run(without=['pretrained'])


@pytest.mark.parametrize('content', ['nothing', 'another depth'])
def test_a_checkpoint_that_matches_nothing_is_an_error(run, tmp_path, content):
    path = tmp_path / 'x.pth'
    state = {'encoder.weight': torch.ones(3)} if content == 'nothing' else crosscl(50).state_dict()
    torch.save(state, path)
    complaint = 'no known checkpoint' if content == 'nothing' else 'the backbones differ'
    with pytest.raises(InputError, match=complaint):
        run(pretrained=str(path))


def test_another_initialization_of_the_backbone_is_not_loaded(run, pretrained, monkeypatch):
    """The hook would overwrite it, or the config asks for random weights."""
    monkeypatch.setattr(CheckpointLoader, 'load_checkpoint', lambda *_: pytest.fail('it is loaded'))
    init_cfg = dict(type='Pretrained', checkpoint='torchvision://resnet18')
    runner = run(
        pretrained=str(pretrained), backbone=dict(init_cfg=dict(_delete_=True, **init_cfg))
    )
    assert torch.equal(first(runner), first(pretrained))
    runner = run(pretrained=None, backbone=dict(init_cfg=dict(_delete_=True, **init_cfg)))
    # Kaiming initialization: variance 2 / (channels · kernel area), here of the outputs
    assert first(runner).std() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)
    # MMEngine loads both checkpoints
    with pytest.raises(pytest.fail.Exception):
        run(
            pretrained=None,
            backbone=dict(init_cfg=dict(_delete_=True, **init_cfg)),
            load_from=str(pretrained),
        )


@pytest.mark.parametrize(
    'backbone, warned',
    [
        (dict(frozen_stages=1, norm_eval=False), True),
        (dict(frozen_stages=-1, norm_eval=True), True),
        (dict(frozen_stages=-1, norm_eval=False), False),
    ],
)
def test_a_partly_frozen_backbone_causes_a_warning(run, pretrained, tmp_path, backbone, warned):
    run(pretrained=str(pretrained), backbone=backbone)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert warned == ('model.backbone.frozen_stages=-1 and model.backbone.norm_eval=False' in log)
    found = ', '.join(f'{name}={value}' for name, value in backbone.items())
    assert warned == (f'The backbone has {found}: ' in log)


@pytest.mark.parametrize('document', ['README.md', 'docs/fine-tuning.md'])
def test_the_documented_config_is_the_recipe(document, pretrained):
    """All layers train, as in the configs of this project."""
    (block,) = [
        block
        for block in re.findall(r'```python\n(.*?)```', Path(document).read_text(), re.DOTALL)
        if 'mmcrosscl.PretrainedHook' in block
    ]
    cfg = Config.fromstring(block, '.py')
    ours = Config.fromfile(CONFIG).model.backbone
    for name in ('frozen_stages', 'norm_eval', 'norm_cfg', 'style'):
        assert cfg.model.backbone[name] == ours[name], name
    assert cfg.default_hooks.pretrained == dict(type='mmcrosscl.PretrainedHook')


def test_the_student_and_the_teacher_are_initialized(pretrained, tmp_path):
    from mmdet.registry import MODELS

    name = 'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'
    model = read_config(f'mmdet::{name}').model
    model.detector.backbone.update(depth=18, init_cfg=dict(type='Pretrained', checkpoint='gone'))
    model.detector.neck.in_channels = [64, 128, 256, 512]
    logger = MMLogger.get_instance('student')
    with DefaultScope.overwrite_default_scope('mmdet'):
        runner = SimpleNamespace(
            model=MODELS.build(model), logger=logger, cfg=dict(pretrained=str(pretrained))
        )
    hook = PretrainedHook()
    hook.before_run(runner)
    runner.model.init_weights()
    hook.before_train(runner)
    for part in (runner.model.student, runner.model.teacher):
        adapted = part.state_dict()[FIRST]
        assert torch.equal(adapted, runner.model.student.state_dict()[FIRST])
        name = 'backbone.layer1.0.conv1.weight'
        expected = torch.load(pretrained, weights_only=True)['state_dict'][name]
        assert torch.equal(part.state_dict()[name], expected)


BACKBONES = {
    'Swin': (SwinTransformer, dict(embed_dims=24, depths=(1, 1, 1, 1), init_cfg=GONE)),
    'PVT': (
        PyramidVisionTransformer,
        dict(num_layers=[1, 1, 1, 1], init_cfg=dict(checkpoint='gone.pth')),
    ),
    'DetectoRS': (
        DetectoRS_ResNet,
        dict(depth=50, sac=dict(type='SAC'), stage_with_sac=(False,) * 4, init_cfg=GONE),
    ),
    'ResNet of MMPretrain': (mmpretrain.models.ResNet, dict(depth=18, init_cfg=GONE)),
    'ResNet': (ResNet, dict(depth=18, init_cfg=GONE)),
}


@pytest.mark.parametrize('name', BACKBONES)
def test_initial_weights_of_every_backbone_are_not_loaded(name):
    kind, settings = BACKBONES[name]
    model = torch.nn.Module()
    with DefaultScope.overwrite_default_scope('mmdet'):
        model.backbone = kind(**settings)
        runner = SimpleNamespace(
            model=model, cfg=dict(pretrained='a.pth'), logger=MMLogger.get_instance('backbones')
        )
        PretrainedHook().before_run(runner)
        model.backbone.init_weights()
    weights = torch.cat([p.flatten() for p in model.backbone.parameters()])
    assert weights.isfinite().all() and weights.std() > 0


def test_a_variable_of_the_detector_config_does_not_add_the_hook(tmp_path):
    """MMDetection's configs of Swin have a variable with the name of the setting."""
    config = tmp_path / 'mine.py'
    config.write_text(
        "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n"
        "pretrained = 'https://example.com/weights.pth'\n"
        "model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained)))\n"
    )
    assert 'pretrained' not in load_config(config).default_hooks
    changed = load_config(config, options={'pretrained': 'mine.pth'})
    assert changed.default_hooks.pretrained.type == 'mmcrosscl.PretrainedHook'
