import math

import pytest
import torch
from mmdet.models.necks import FPN
from torch import nn

from mmcrosscl.errors import InputError
from mmcrosscl.models import CrossCLNeck


def stages(channels=(8, 16, 32), size=64, images=2):
    first = 6 - len(channels)
    return [
        torch.randn(images, c, size // 2 ** (first + i), size // 2 ** (first + i))
        for i, c in enumerate(channels)
    ]


@pytest.mark.parametrize('norm_cfg', [None, dict(type='BN')])
def test_mmdetections_fpn_loads_the_weights_and_returns_the_same_levels(norm_cfg):
    neck = CrossCLNeck((8, 16, 32), out_channels=12, norm_cfg=norm_cfg)
    neck.init_weights()
    fpn = FPN([4, 8, 16, 32], out_channels=12, num_outs=5, norm_cfg=norm_cfg)
    pyramid = {k: v for k, v in neck.state_dict().items() if not k.startswith('projection')}
    report = fpn.load_state_dict(pyramid, strict=False)
    assert not report.unexpected_keys
    c2, *rest = stages((4, 8, 16, 32))
    _, p3, p4, *_ = fpn((c2, *rest))
    features = neck(rest)
    torch.testing.assert_close(features['p3'], p3)
    torch.testing.assert_close(features['p4'], p4)


def test_the_global_vector_is_the_projection_of_the_mean_of_c5():
    neck = CrossCLNeck((8, 16, 32), hid_channels=24, feat_dim=6)
    maps = stages()
    first, _, last = neck.projection.mlp
    expected = last(torch.relu(first(maps[-1].mean(dim=(2, 3)))))
    torch.testing.assert_close(neck(maps)['global'], expected)


def test_initial_weights_follow_caffe2s_xavier():
    neck = CrossCLNeck()
    neck.init_weights()
    for module in neck.modules():
        if isinstance(module, nn.Conv2d):
            bound = math.sqrt(3 / module.weight[0].numel())
            assert module.weight.abs().max() <= bound
            assert module.weight.detach().std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
            assert torch.equal(module.bias, torch.zeros_like(module.bias))


def test_norm_layers_replace_biases():
    neck = CrossCLNeck(norm_cfg=dict(type='BN'))
    convs = [m for m in neck.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in neck.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convs) == len(norms) == 5
    assert all(conv.bias is None for conv in convs)


def test_levels_are_configurable():
    neck = CrossCLNeck((4, 8, 16, 32), levels=dict(p5=32, p2=4), out_channels=12)
    features = neck(stages((4, 8, 16, 32)))
    assert {k: v.shape[-1] for k, v in features.items() if k != 'global'} == {'p5': 2, 'p2': 16}


def test_every_parameter_gets_a_gradient():
    neck = CrossCLNeck((8, 16, 32), levels=dict(p5=32, p4=16), out_channels=12)
    features = neck(stages())
    sum(x.sum() for x in features.values()).backward()
    assert all(p.grad is not None for p in neck.parameters())
    assert list(neck.lateral_convs) == ['2', '3']


def test_levels_and_strides_are_attributes():
    neck = CrossCLNeck(levels=dict(p4=16, fine=8, deep=64))
    assert neck.levels == ('p4', 'fine', 'deep')
    assert neck.strides == dict(p4=16, fine=8, deep=64)
    assert list(neck(stages((512, 1024, 2048)))) == ['global', 'p4', 'fine', 'deep']


@pytest.mark.parametrize('strides', [(4, 8, 16, 32, 64, 128), (128, 8), (64,)])
def test_strides_from_4_to_128_match_mmdetections_levels(strides):
    channels = [4, 8, 16, 32]
    neck = CrossCLNeck(channels, levels={f'stride {s}': s for s in strides}, out_channels=12)
    neck.init_weights()
    fpn = FPN(channels, out_channels=12, num_outs=6)
    pyramid = {k: v for k, v in neck.state_dict().items() if not k.startswith('projection')}
    assert not fpn.load_state_dict(pyramid, strict=False).unexpected_keys
    maps = stages(channels, size=256)
    expected = dict(zip((4, 8, 16, 32, 64, 128), fpn(maps)))
    features = neck(maps)
    for stride in strides:
        assert features[f'stride {stride}'].shape[-1] == 256 // stride
        torch.testing.assert_close(features[f'stride {stride}'], expected[stride])
    sum(x.sum() for x in features.values()).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_stage_strides_are_configurable():
    neck = CrossCLNeck((8, 16), levels=dict(a=8, b=32), out_channels=12, stage_strides=(8, 16))
    assert list(neck.lateral_convs) == ['1', '2'] and list(neck.fpn_convs) == ['1', '2']
    features = neck([torch.randn(2, 8, 8, 8), torch.randn(2, 16, 4, 4)])
    assert features['a'].shape[-1] == 8 and features['b'].shape[-1] == 2


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(in_channels=(1, 2, 3, 4, 5)), 'one to four stages that end at stride 32'),
        (dict(in_channels=()), 'one to four stages that end at stride 32'),
        (dict(stage_strides=(8, 16)), 'stage_strides is .* for 3 stages'),
        (dict(stage_strides=(16, 16, 16)), 'each twice the previous stride'),
        (dict(stage_strides=(7, 14, 28)), 'each twice the previous stride'),
        (dict(levels={}), 'levels is .*at least one level'),
        (dict(levels=['p4', 'p3']), r"levels is \['p4', 'p3'\]; .* such as dict\(p4=16, p3=8\)"),
        (dict(levels=dict(p4=16, p2=4)), "'p2' with stride 4 .* stride of 8, 16, 32, 64, 128 "),
        (dict(levels=dict(p4=20)), "level 'p4' with stride 20 is invalid"),
        (dict(levels={'global': 16}), 'a name other than "global"'),
    ],
)
def test_invalid_settings_raise_an_error(settings, message):
    with pytest.raises(InputError, match=message):
        CrossCLNeck(**settings)


@pytest.mark.parametrize('maps', [stages()[:2], stages((8, 16, 33))])
def test_unexpected_stages_raise_an_error(maps):
    neck = CrossCLNeck((8, 16, 32), out_channels=12)
    with pytest.raises(InputError, match='the neck expected stages with .* but got shapes'):
        neck(maps)


def test_vectors_raise_an_error():
    # a ConvNeXt of MMPretrain returns the means of its maps by default
    with pytest.raises(InputError, match=r'which are not maps .* gap_before_final_norm=False'):
        CrossCLNeck((8, 16, 32))([*stages()[:2], torch.randn(2, 32)])


@pytest.mark.parametrize('sides', [(8, 8, 4), (16, 8, 2)])
def test_stages_whose_strides_do_not_double_raise_an_error(sides):
    maps = [torch.randn(1, channels, s, s) for channels, s in zip((8, 16, 32), sides)]
    with pytest.raises(InputError, match='the stride must double from stage to stage; set'):
        CrossCLNeck((8, 16, 32))(maps)


@pytest.mark.parametrize('rounded', [7, 8])
def test_a_size_that_is_not_a_multiple_of_every_stride_raises_an_error(rounded):
    maps = [torch.randn(1, c, s, s) for c, s in ((8, 30), (16, 15), (32, rounded))]
    with pytest.raises(InputError, match='use a multiple of 32$'):
        CrossCLNeck((8, 16, 32), out_channels=12)(maps)
    with pytest.raises(InputError, match='use a multiple of 64$'):
        CrossCLNeck((8, 16, 32), dict(p6=64), out_channels=12)(maps)
