"""Backbone, neck and normalization in the config of a detector."""

import pytest
from mmengine.config import Config
from torch.nn import SyncBatchNorm

from mmcrosscl.detectors import find_detector, initial_checkpoints, loads_weights
from mmcrosscl.engine import read_config
from mmcrosscl.errors import InputError

PRETRAINED = dict(type='Pretrained', checkpoint='torchvision://resnet50')


def detector(keep_weights=True, scope='mmdet', **model):
    model = dict(type='RetinaNet', backbone=dict(type='ResNet', depth=18)) | model
    return find_detector(Config(dict(model=model, default_scope=scope)), 'a/b.py', keep_weights)


def test_all_layers_become_trainable():
    norm = dict(type='SyncBN', requires_grad=False, eps=1e-3)
    backbone = dict(
        type='ResNet', depth=50, frozen_stages=1, norm_eval=True, style='caffe', norm_cfg=norm,
        dcn=dict(type='DCNv2', deform_groups=1), init_cfg=PRETRAINED,
    )  # fmt: skip
    found = detector(backbone=backbone, neck=dict(type='FPN', norm_cfg=norm))
    trained = dict(type='BN', requires_grad=True, eps=1e-3)
    assert found.backbone == backbone | dict(frozen_stages=-1, norm_eval=False, norm_cfg=trained)
    assert found.neck == dict(type='FPN', norm_cfg=trained)
    assert len(found.notes) == 3 and found.name == 'b'
    assert 'Batch norm replaces synchronized batch norm during pre-training.' in found.notes


@pytest.mark.parametrize('kind', ['torch.nn.SyncBatchNorm', SyncBatchNorm, 'mmcv.SyncBN'])
def test_synchronized_batch_norm_is_replaced_in_every_notation(kind):
    backbone = dict(type='ResNet', depth=18, norm_cfg=dict(type=kind))
    assert detector(backbone=backbone).backbone['norm_cfg'] == dict(type='BN')


def test_a_backbone_with_a_scope_of_its_own_is_unfrozen():
    for backbone in (
        dict(type='ConvNeXt', _scope_='mmpretrain', frozen_stages=3),
        dict(type='mmpretrain.ConvNeXt', frozen_stages=3),
    ):
        assert detector(backbone=backbone).backbone['frozen_stages'] == 0


def test_the_defaults_of_a_class_are_unfrozen_too():
    # the default of MMDetection's ResNet is norm_eval=True, and EfficientNet rejects -1
    assert detector().backbone == dict(type='ResNet', depth=18, norm_eval=False)
    backbone = detector(backbone=dict(type='EfficientNet', arch='b0', frozen_stages=2)).backbone
    assert backbone['frozen_stages'] == 0


def test_pretrained_weights_are_kept_or_dropped():
    rfp = dict(type='RFP', rfp_backbone=dict(type='DetectoRS_ResNet', pretrained='torchvision://x'))
    backbone = dict(type='ResNet', depth=18, init_cfg=PRETRAINED)
    kept = detector(backbone=backbone, neck=rfp)
    assert kept.backbone['init_cfg'] == PRETRAINED
    assert kept.neck['rfp_backbone']['pretrained'] == 'torchvision://x'
    dropped = detector(False, backbone=backbone, neck=rfp)
    assert 'init_cfg' not in dropped.backbone and 'pretrained' not in dropped.neck['rfp_backbone']
    assert loads_weights(kept.backbone) and loads_weights([dict(type='FPN'), kept.neck])
    assert not loads_weights([dropped.backbone, dropped.neck, None])
    timm = dict(type='mmpretrain.TIMMBackbone', model_name='resnet18', pretrained=True)
    paths = [PRETRAINED['checkpoint'], 'torchvision://x']
    assert initial_checkpoints([kept.backbone, kept.neck, timm]) == paths
    lists = dict(init_cfg=[dict(type='Kaiming', layer='Conv2d'), PRETRAINED])
    assert initial_checkpoints([lists, dropped.backbone]) == paths[:1]
    assert 'pretrained' not in detector(False, backbone=timm).backbone
    other = dict(type='Kaiming', layer='Conv2d')
    assert detector(False, backbone=dict(backbone, init_cfg=other)).backbone['init_cfg'] == other


@pytest.mark.parametrize(
    'settings, expected',
    [
        (
            dict(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=True),
            dict(mean=[1, 2, 3], std=[4, 5, 6]),
        ),
        (
            dict(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=False),
            dict(mean=[1, 2, 3], std=[4, 5, 6], rgb_to_bgr=True),
        ),
        (None, dict(mean=[0, 0, 0], std=[1, 1, 1], rgb_to_bgr=True)),
        (
            dict(type='MultiBranchDataPreprocessor',
                 data_preprocessor=dict(mean=[1, 2, 3], std=[4, 5, 6])),
            dict(mean=[1, 2, 3], std=[4, 5, 6], rgb_to_bgr=True),
        ),
    ],
)  # fmt: skip
def test_the_normalization(settings, expected):
    assert detector(data_preprocessor=settings).preprocessor == expected


def test_the_normalization_at_the_top_level_is_used():
    model = dict(type='RetinaNet', backbone=dict(type='ResNet', depth=18))
    top = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], bgr_to_rgb=True)
    found = find_detector(Config(dict(model=model, data_preprocessor=top)), 'a.py')
    assert found.preprocessor == dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0])


def test_a_detector_without_a_neck_returns_two_stages():
    backbone = dict(type='ResNet', depth=50, num_stages=3, out_indices=(2,))
    assert detector(backbone=backbone).backbone['out_indices'] == (1, 2)
    neck = dict(type='FPN')
    assert detector(backbone=backbone, neck=neck).backbone['out_indices'] == (2,)


def test_a_wrapper_of_a_detector_is_unwrapped():
    name = 'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'
    found = find_detector(read_config(name), name)
    assert found.notes[0] == 'The detector within SoftTeacher is pre-trained.'
    assert found.backbone['style'] == 'caffe' and found.preprocessor['rgb_to_bgr']


def test_modules_that_define_components_are_kept():
    cfg = Config(dict(model=dict(type='RetinaNet', backbone=dict(type='ResNet'))))
    cfg.custom_imports = dict(imports='mine.backbone')
    assert find_detector(cfg, 'x.py').imports == ('mine.backbone',)


@pytest.mark.parametrize(
    'cfg, message',
    [
        (dict(), 'x.py has no `model`; pass the config of a detector'),
        (dict(model=dict(type='Mine')), 'the model Mine is not registered; .* custom_imports'),
        (
            dict(model=dict(type='mmpretrain.ImageClassifier', backbone=dict(type='ResNet'))),
            'ImageClassifier, which is not a detector',
        ),
        (dict(model=dict(type='RetinaNet')), 'the model RetinaNet has no `backbone` config'),
    ],
)
def test_bad_input(cfg, message):
    with pytest.raises(InputError, match=message):
        find_detector(Config(cfg), 'x.py')


def test_a_tracker_is_refused():
    name = (
        'mmdet::bytetrack/bytetrack_yolox_x_8xb4-80e_crowdhuman-mot17halftrain_test-mot17halfval.py'
    )
    with pytest.raises(InputError, match='ByteTrack, which is not a detector'):
        find_detector(read_config(name), name)
