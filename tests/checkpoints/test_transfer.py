from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.utils import get_installed_path
from mmpretrain.registry import MODELS as MMPRETRAIN

from mmcrosscl.checkpoints import convert, convert_for_model
from mmcrosscl.checkpoints.normalization import CAFFE, IMAGENET
from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS as CROSSCL
from tests.checkpoints.makers import crosscl, reference, resnet, varied
from tests.models.builders import model_config


def detector(name='retinanet_r50_fpn', depth=18, neck=None, **backbone):
    configs = Path(get_installed_path('mmdet'), '.mim/configs')
    cfg = Config.fromfile(configs / f'_base_/models/{name}.py').model
    cfg.backbone.update(depth=depth, init_cfg=None, **backbone)
    cfg.neck.in_channels = [64, 128, 256, 512] if depth == 18 else [256, 512, 1024, 2048]
    cfg.neck.update(neck or {})
    return MODELS.build(dict(cfg, _scope_='mmdet'))


@pytest.fixture(scope='module')
def state():
    return crosscl().state_dict()


def test_every_converted_weight_loads_into_the_model(state):
    model = detector()
    conversion = convert_for_model(state, model)
    result = model.load_state_dict(conversion.state_dict, strict=False)
    assert not result.unexpected_keys
    assert {name.split('.')[0] for name in result.missing_keys} == {'neck', 'bbox_head'}
    assert torch.equal(model.neck.fpn_convs[0].conv.weight, state['neck.fpn_convs.1.conv.weight'])
    assert len(conversion.origin) + len(conversion.skipped) == len(state)


def test_every_known_format_is_accepted(state):
    model = detector()
    expected = convert_for_model(state, model).state_dict
    for to, level in (('crosscl', 0), ('mmdet', 0), ('mmdet', 1), ('detectron2', 0)):
        result = convert_for_model(convert(state, to, level).contents(), model).state_dict
        assert result.keys() == expected.keys()
        assert all(torch.equal(result[name], value) for name, value in expected.items())
    assert convert_for_model(reference(18), model).state_dict.keys() == expected.keys()
    backbone = convert_for_model(convert(state, 'timm').contents(), model).state_dict
    assert all(name.startswith('backbone.') for name in backbone) and len(backbone) == 120


def test_a_classifier_loads_the_backbone(state):
    model = MMPRETRAIN.build(
        dict(
            _scope_='mmpretrain',
            type='ImageClassifier',
            backbone=dict(type='ResNet', depth=18),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=512),
        )
    )
    conversion = convert_for_model(state, model)
    assert model.load_state_dict(conversion.state_dict, strict=False).missing_keys == [
        'head.fc.weight',
        'head.fc.bias',
    ]
    assert (
        conversion.skipped['neck.fpn_convs.1.conv.weight'] == 'a level that the model does not have'
    )


@pytest.mark.parametrize(
    'make, complaint',
    [
        (lambda: detector(depth=50), r'backbones differ, because the checkpoint lacks .* \d+ more'),
        (lambda: detector(base_channels=32), r'do not fit the model: backbone.* and \d+ more'),
    ],
)
def test_a_different_backbone_is_named(state, make, complaint):
    with pytest.raises(InputError, match=complaint):
        convert_for_model(state, make())


def test_a_model_without_a_backbone_is_refused(state):
    model = torch.nn.Module()
    model.student = detector()
    with pytest.raises(InputError, match='has no backbone that the checkpoint could initialize'):
        convert_for_model(state, model)


def test_a_deeper_checkpoint_is_named():
    with pytest.raises(InputError, match='because the model lacks backbone.layer1.2.bn1'):
        convert_for_model(crosscl(depth=34).state_dict(), detector())


def test_different_norms_are_named(state):
    with_norm = detector(neck=dict(norm_cfg=dict(type='BN')))
    for given, model in ((crosscl(with_norm=True).state_dict(), detector()), (state, with_norm)):
        with pytest.raises(InputError, match="set the model's neck.norm_cfg to that of pre-tr"):
            convert_for_model(given, model)
    assert convert_for_model(crosscl(with_norm=True).state_dict(), with_norm).state_dict


CSPNEXT = dict(type='mmdet.CSPNeXt', deepen_factor=0.167, widen_factor=0.375, out_indices=(2, 3, 4))
PAFPN = dict(
    type='mmdet.CSPNeXtPAFPN', in_channels=[96, 192, 384], out_channels=96, num_csp_blocks=1
)
NECK = dict(
    type='mmcrosscl.DetectorNeck',
    detector=PAFPN,
    in_channels=384,
    map_strides=(8, 16, 32),
    levels=dict(p4=16, p3=8),
    level_channels=dict(p4=96, p3=96),
)


def rtmdet(neck=PAFPN):
    """Build the backbone and the neck of an RTMDet-tiny with random weights."""
    model = torch.nn.Module()
    model.backbone, model.neck = MODELS.build(CSPNEXT), MODELS.build(neck)
    model.bbox_head = torch.nn.Conv2d(96, 80, 1)
    model.data_preprocessor = MODELS.build(
        dict(type='mmdet.DetDataPreprocessor', mean=CAFFE.mean, std=CAFFE.std)
    )
    model.load_state_dict(varied(model.state_dict()))
    return model


def crosscl_with(neck=NECK, backbone=CSPNEXT):
    """Build a CrossCL with a detector's backbone and neck."""
    cfg = model_config(queue_len=8)
    cfg |= dict(backbone=backbone, neck=neck)
    cfg['data_preprocessor'] = dict(mean=IMAGENET.mean, std=IMAGENET.std)
    model = CROSSCL.build(cfg)
    model.load_state_dict(varied(model.state_dict()))
    return model


def saved(model, input_format=CAFFE):
    """Return a checkpoint of a model with an input format."""
    return dict(state_dict=model.state_dict(), meta=dict(input_format=input_format.to_dict()))


def assert_loaded(model, source, inner='', outer=''):
    """Load a checkpoint, and compare the backbone and the neck except for the first convolution."""
    conversion = convert_for_model(source, model)
    result = model.load_state_dict(conversion.state_dict, strict=False)
    assert not result.unexpected_keys
    loaded, given = model.state_dict(), source['state_dict']
    names = [name for name in given if name.startswith((f'neck.{inner}', 'backbone.'))]
    names = [name for name in names if name != 'backbone.stem.0.conv.weight']
    assert len(names) > 50
    for name in names:
        target = name.replace(f'neck.{inner}', f'neck.{outer}')
        assert torch.equal(loaded[target], given[name]), name
    return conversion


def test_the_weights_of_a_detector_with_any_backbone_start_pretraining():
    model = crosscl_with()
    conversion = assert_loaded(model, saved(rtmdet()), outer='detector.')
    assert conversion.kind == 'MMDetection or MMPretrain'
    assert conversion.skipped['bbox_head.weight'] == 'not part of the backbone or the neck'
    assert 'permuted input channels and scaled weights' in conversion.notes[0]


def test_pretraining_starts_a_detector_with_any_backbone_and_neck():
    source = saved(crosscl_with(), IMAGENET)
    conversion = assert_loaded(rtmdet(), source, inner='detector.')
    assert conversion.kind == 'CrossCL of mmcrosscl'
    for part in ('neck.level_convs.0.weight', 'neck.projection.mlp.0.weight'):
        assert 'used only in pre-training' in conversion.skipped[part]
    assert 'key encoder' in conversion.skipped['key_encoder.neck.detector.out_convs.0.conv.weight']
    # a converted file, and a detector that was trained from it
    assert_loaded(rtmdet(), convert(source, 'mmdet').contents())
    assert_loaded(rtmdet(), saved(rtmdet()))
    assert_loaded(crosscl_with(), source, 'detector.', 'detector.')


def test_the_targets_of_a_detector_with_a_wrapped_neck():
    source = saved(crosscl_with())
    given = source['state_dict']
    converted = convert(source, 'mmdet').state_dict
    assert converted.keys() == {n for n in rtmdet().state_dict() if not n.startswith('bbox')}
    assert convert(source, 'crosscl').state_dict.keys() == given.keys()
    backbone = convert(source, 'mmdet-backbone').state_dict
    assert backbone.keys() == {name for name in given if name.startswith('backbone.')}
    for to in ('detectron2', 'torchvision', 'timm'):
        with pytest.raises(InputError, match=f'not a ResNet, which {to} requires; convert it to'):
            convert(source, to)
    with pytest.raises(InputError, match='only to an FPN, .*; omit --start-level'):
        convert(source, 'mmdet', start_level=1)
    assert convert(convert(source, 'mmdet').contents(), 'crosscl').state_dict.keys() == {
        name for name in given if name.startswith(('backbone.', 'neck.detector.'))
    }


def test_a_resnet_with_a_wrapped_neck_converts_to_every_target():
    state = resnet('backbone.') | {'neck.detector.convs.0.weight': torch.ones(2)}
    source = dict(state_dict=state | {'queue.keys': torch.ones(2, 2)})
    for to in ('detectron2', 'torchvision', 'timm'):
        conversion = convert(source, to)
        assert len(conversion.state_dict) == 120
        assert 'neck.detector.convs.0.weight' in conversion.skipped
    state.pop('backbone.layer4.1.conv2.weight')
    with pytest.raises(InputError, match='1 missing name: backbone.layer4.1.conv2.weight'):
        convert(source | dict(state_dict=state | {'queue.keys': torch.ones(2, 2)}), 'timm')


@pytest.mark.parametrize(
    'neck',
    [
        dict(PAFPN, out_channels=64),
        dict(type='mmdet.FPN', in_channels=[96, 192, 384], out_channels=96, num_outs=3),
    ],
    ids=['width', 'kind'],
)
def test_another_neck_is_refused(neck):
    for source in (saved(crosscl_with()), saved(rtmdet())):
        with pytest.raises(InputError, match='the neck of the checkpoint differs from that of the'):
            convert_for_model(source, rtmdet(neck))
    without = rtmdet()
    del without.neck
    assert convert_for_model(source, without).state_dict


def test_a_whole_detector_loads_with_its_coarse_levels():
    source, model = detector(), detector()
    source.load_state_dict(varied(source.state_dict()))
    loaded = convert_for_model(source.state_dict(), model).state_dict
    assert torch.equal(loaded['neck.fpn_convs.4.conv.bias'], source.neck.fpn_convs[4].conv.bias)
    # the levels of a Mask R-CNN start at C2
    levels = convert_for_model(detector('mask-rcnn_r50_fpn').state_dict(), model).state_dict
    assert {name for name in levels if 'neck.fpn' in name and 'bias' in name} == {
        f'neck.fpn_convs.{level}.conv.bias' for level in (0, 1, 2)
    }


def test_an_fpn_initializes_a_wrapped_fpn(state):
    neck = dict(
        type='mmcrosscl.DetectorNeck',
        detector=dict(
            type='mmdet.FPN',
            in_channels=[64, 128, 256, 512],
            out_channels=256,
            start_level=1,
            num_outs=3,
        ),
        in_channels=512,
        map_strides=(8, 16, 32),
        levels=dict(p4=16, p3=8),
    )
    backbone = dict(type='mmpretrain.ResNet', depth=18, out_indices=(0, 1, 2, 3))
    loaded = convert_for_model(state, crosscl_with(neck, backbone)).state_dict
    assert torch.equal(
        loaded['neck.detector.fpn_convs.0.conv.weight'], state['neck.fpn_convs.1.conv.weight']
    )


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='ResNeXt', depth=50, groups=32, base_width=4),
        dict(type='ResNetV1d', depth=50),
        dict(type='Res2Net', depth=50, scales=4, base_width=26),
        dict(type='ResNet', depth=50, base_channels=16),
    ],
    ids=str,
)
def test_detectors_with_relatives_of_resnet_load(backbone):
    source, model = torch.nn.Module(), torch.nn.Module()
    source.backbone = MODELS.build(dict(backbone, _scope_='mmdet'))
    model.backbone = MODELS.build(dict(backbone, _scope_='mmdet'))
    given = varied(source.state_dict())
    loaded = convert_for_model(given, model).state_dict
    assert all(torch.equal(loaded[name], value) for name, value in given.items())
    with pytest.raises(InputError, match='not a ResNet, which timm requires'):
        convert(given, 'timm')
