"""A detector's neck as a neck of CrossCL."""

import pytest
import torch
from mmdet.models.necks import FPN, YOLOV3Neck
from mmengine.registry import DefaultScope

from mmcrosscl.errors import InputError
from mmcrosscl.models import DetectorNeck

FPN_SETTINGS = dict(type='mmdet.FPN', in_channels=[16, 32, 64], out_channels=8, num_outs=4)
SETTINGS = dict(
    detector=FPN_SETTINGS, in_channels=64, map_strides=[8, 16, 32, 64], levels=dict(p4=16, p3=8),
    hid_channels=32,
)  # fmt: skip
STAGES = tuple(torch.randn(2, c, 64 // s, 64 // s) for c, s in ((16, 8), (32, 16), (64, 32)))


def test_the_levels_are_maps_of_the_neck():
    neck = DetectorNeck(**SETTINGS)
    features = neck(STAGES)
    maps = neck.detector(STAGES)
    assert isinstance(neck.detector, FPN)
    assert torch.equal(features['p3'], maps[0]) and torch.equal(features['p4'], maps[1])
    assert features['global'].shape == (2, 128)
    assert list(features) == ['global', 'p4', 'p3'] and neck.levels == ('p4', 'p3')


def test_the_names_of_the_weights_are_those_of_the_detector():
    neck = DetectorNeck(**SETTINGS)
    alone = FPN([16, 32, 64], 8, 4)
    prefix = 'detector.'
    names = {n.removeprefix(prefix) for n in neck.state_dict() if n.startswith(prefix)}
    assert names == alone.state_dict().keys()


def test_necks_in_a_row_and_a_neck_that_returns_one_map():
    with DefaultScope.overwrite_default_scope('mmdet'):
        row = DetectorNeck(
            **SETTINGS
            | dict(
                detector=[
                    FPN_SETTINGS,
                    dict(type='BFP', in_channels=8, num_levels=4, refine_level=1),
                ]
            )
        )
        one = DetectorNeck(
            dict(type='mmdet.DilatedEncoder', in_channels=64, out_channels=16, block_mid_channels=8,
                 num_residual_blocks=1, block_dilations=[1]),
            64, [32], dict(p5=32),
        )  # fmt: skip
    assert row(STAGES)['p4'].shape == (2, 8, 4, 4)
    assert one(STAGES[2:])['p5'].shape == (2, 16, 2, 2)


def test_levels_of_different_widths_are_mapped_to_one_width():
    neck = DetectorNeck(
        dict(type='mmdet.YOLOV3Neck', num_scales=3, in_channels=[64, 32, 16],
             out_channels=[32, 16, 8]),
        64, [32, 16, 8], dict(p4=16, p3=8), level_channels=dict(p4=16, p3=8), embed_channels=12,
    )  # fmt: skip
    features = neck(STAGES)
    assert isinstance(neck.detector, YOLOV3Neck)
    assert features['p4'].shape == (2, 12, 4, 4) and features['p3'].shape == (2, 12, 8, 8)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(levels=dict(p2=4)), "level 'p2' with stride 4 is invalid for a neck with strides 8"),
        (dict(levels={'global': 8}), 'a name other than "global"'),
        (
            dict(level_channels=dict(p4=8)),
            'level_channels has the levels p4, but levels has p4, p3',
        ),
    ],
)
def test_invalid_levels_raise_an_error(change, message):
    with pytest.raises(InputError, match=message):
        DetectorNeck(**SETTINGS | change)


def test_another_number_of_maps_raises_an_error():
    neck = DetectorNeck(**SETTINGS | dict(map_strides=[8, 16, 32]))
    with pytest.raises(InputError, match='returned 4 maps, but map_strides has 3 strides'):
        neck(STAGES)
