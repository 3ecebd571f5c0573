"""Channels, strides and gradients of a detector, found by running it."""

import pytest
from mmengine.config import Config

from mmcrosscl.detectors import dry_run, find_detector
from mmcrosscl.engine import read_config
from mmcrosscl.errors import InputError

BACKBONE = dict(type='ResNet', depth=18, base_channels=16)
WIDTHS = [16, 32, 64, 128]


def run(backbone=BACKBONE, neck=None, **arguments):
    cfg = Config(dict(model=dict(type='RetinaNet', backbone=backbone, neck=neck)))
    return dry_run(find_detector(cfg, 'x.py'), **arguments)


def test_an_fpn():
    neck = dict(type='FPN', in_channels=WIDTHS, out_channels=8, num_outs=5)
    found = run(neck=neck)
    assert found.stage_channels == tuple(WIDTHS) and found.stage_strides == (4, 8, 16, 32)
    assert found.map_channels == (8,) * 5 and found.map_strides == (4, 8, 16, 32, 64)
    assert found.levels == dict(p4=16, p3=8) and found.level_channels == dict(p4=8, p3=8)
    assert found.batch_norm and found.channels_last and found.neck == neck
    assert found.view_size == 224
    # the terms reach no weight that only P2 and P5 use
    parts = {name.rpartition('.conv')[0] for name in found.unreached}
    assert parts == {'neck.lateral_convs.0', 'neck.fpn_convs.0', 'neck.fpn_convs.3'}
    unreached = 2 * (8 * 8 * 9 + 8) + 16 * 8 + 8
    assert found.parameters - found.reached == unreached


@pytest.mark.parametrize(
    'levels, unreached',
    [
        (dict(p5=32, p4=16, p3=8), {'lateral_convs.0', 'fpn_convs.0'}),
        (dict(p5=32), {'lateral_convs.0', 'lateral_convs.1', 'lateral_convs.2', 'fpn_convs.0',
                       'fpn_convs.1', 'fpn_convs.2'}),
        ({}, {f'{name}_convs.{i}' for name in ('lateral', 'fpn') for i in range(4)}),
    ],
)  # fmt: skip
def test_given_levels(levels, unreached):
    neck = dict(type='FPN', in_channels=WIDTHS, out_channels=8, num_outs=5)
    found = run(neck=neck, levels=levels)
    assert found.levels == levels and found.level_channels == dict.fromkeys(levels, 8)
    parts = {name.rpartition('.conv')[0] for name in found.unreached}
    assert parts == {f'neck.{name}' for name in unreached}


def test_a_given_level_without_a_map_raises_an_error():
    neck = dict(type='FPN', in_channels=WIDTHS, out_channels=8, num_outs=4)
    with pytest.raises(InputError, match='stride of level p6; the strides are 4, 8, 16, 32'):
        run(neck=neck, levels=dict(p6=64, p4=16))


def test_a_detector_without_a_neck_gets_an_fpn_that_does_not_count():
    found = run()
    assert found.neck['type'] == 'mmdet.FPN' and found.levels == dict(p4=16, p3=8)
    assert found.reached == found.parameters and found.unreached == ()


def test_a_layer_of_a_backbone_that_is_for_classification_is_not_reached():
    backbone = dict(type='mmpretrain.MobileNetV2', out_indices=(1, 2, 4, 6))
    neck = dict(type='FPN', in_channels=[24, 32, 96, 320], out_channels=8, num_outs=3)
    found = run(backbone, neck=neck | dict(start_level=1))
    assert found.stage_strides == (4, 8, 16, 32) and found.batch_norm
    parts = {name.partition('.conv.')[0].partition('.bn.')[0] for name in found.unreached}
    assert parts == {'backbone.conv2', 'neck.fpn_convs.2'}


def test_layers_that_do_not_support_channels_last_are_found():
    convolution = dict(type='ConvAWS')
    backbone = dict(type='DetectoRS_ResNet', depth=50, base_channels=16, conv_cfg=convolution)
    neck = dict(type='FPN', in_channels=[64, 128, 256, 512], out_channels=8, num_outs=4)
    found = run(backbone, neck=neck)
    assert not found.channels_last


def test_a_neck_for_large_images():
    neck = read_config('mmdet::ssd/ssd300_coco.py').model.neck
    neck.update(in_channels=(32, 64), out_channels=(32, 64, 16, 16, 16, 16))
    # SSD has stages of strides 8 and 16
    found = run(BACKBONE | dict(out_indices=(1, 2)), neck=neck)
    assert found.view_size == 512 and found.levels == dict(p4=16, p3=8)
    assert found.level_channels == dict(p4=64, p3=32)


def test_a_neck_that_needs_a_multiple_of_its_deepest_stride():
    neck = read_config('mmdet::fpg/faster-rcnn_r50_fpg-chn128_crop640-50e_coco.py').model.neck
    neck.update(in_channels=WIDTHS, out_channels=8, inter_channels=8)
    found = run(neck=neck)
    assert found.view_size == 256 and found.map_strides[-1] == 64


@pytest.mark.parametrize('wanted, found', [(96, 96), (100, 128), (224, 224)])
def test_the_wanted_size_of_the_views_becomes_a_multiple_of_the_strides(wanted, found):
    neck = dict(type='FPN', in_channels=WIDTHS, out_channels=8, num_outs=4)
    assert run(neck=neck, view_size=wanted).view_size == found


@pytest.mark.parametrize(
    'model, message',
    [
        (dict(backbone=dict(type='Mine')), 'the backbone Mine is not registered; .* custom_imp'),
        (dict(neck=dict(type='Mine')), 'the neck Mine is not registered; .* custom_imports'),
        (dict(backbone=dict(type='ResNet', depth=19)), r'the backbone cannot be built \(.*19'),
        (
            dict(neck=dict(type='FPN', in_channels=[1, 2, 3, 4], out_channels=8, num_outs=4)),
            r'the neck does not run on a CPU \(.*channels',
        ),
        (
            dict(backbone=dict(type='mmpretrain.VisionTransformer', arch='deit-t', img_size=256)),
            'the backbone does not return one feature map',
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_pretrained_is_one_sentence(model, message):
    with pytest.raises(InputError, match=message):
        run(**model)


def test_a_backbone_with_several_branches_is_refused():
    model = read_config('mmdet::tridentnet/tridentnet_r50-caffe_1x_coco.py').model
    with pytest.raises(InputError, match='the backbone does not return one feature map'):
        run(model.backbone | dict(base_channels=16))
