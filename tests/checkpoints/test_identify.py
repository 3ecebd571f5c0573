from functools import cache

import pytest
import torch
import torchvision

from mmcrosscl.checkpoints import convert, identify
from mmcrosscl.errors import InputError
from tests.checkpoints.makers import crosscl, densecl, moco, reference, varied


@pytest.fixture(scope='module')
def state():
    return crosscl().state_dict()


def mmdet(start_level):
    return lambda: convert(crosscl().state_dict(), 'mmdet', start_level).state_dict


@cache
def made(make):
    """Return the cached result of ``make``."""
    return make()


@pytest.mark.parametrize(
    'make, kind, pyramid, key_encoder',
    [
        (lambda: crosscl().state_dict(), 'CrossCL of mmcrosscl', True, True),
        (lambda: reference(18), 'CrossCL of the reference, or ReSim', True, True),
        (lambda: reference(18, with_norm=True), 'CrossCL of the reference, or ReSim', True, True),
        (densecl, 'DenseCL', False, True),
        (lambda: moco(1), 'MoCo v1', False, True),
        (lambda: moco(2), 'MoCo v2', False, True),
        (lambda: torchvision.models.resnet34().state_dict(), 'torchvision or timm', False, False),
        (mmdet(0), 'MMDetection or MMPretrain', True, False),
        (mmdet(1), 'MMDetection or MMPretrain', True, False),
    ],
)
@pytest.mark.parametrize('entry', ['state_dict', 'model', None])
def test_every_format_is_identified_by_its_names(make, kind, pyramid, key_encoder, entry):
    state = made(make)
    source = identify({entry: state, 'epoch': 3} if entry else state)
    assert source.kind == kind
    assert 'backbone.layer4.1.bn2.running_var' in source.weights
    laterals = {name for name in source.weights if name.startswith('neck.lateral')}
    expected = {f'neck.lateral_convs.{level}.conv' for level in (1, 2, 3)} if pyramid else set()
    assert {n.rpartition('.')[0] for n in laterals if '.conv.' in n} == expected
    assert any(name.startswith('key_encoder.') for name in source.weights) == key_encoder
    # every weight is either converted or skipped
    assert len(source.origin) + len(source.skipped) == len(state)


@pytest.mark.slow
@pytest.mark.parametrize('with_norm', [False, True])
@pytest.mark.parametrize('depth', [18, 50])
def test_a_reference_checkpoint_loads_strictly_with_correct_values(depth, with_norm):
    source = reference(depth, with_norm)
    model = crosscl(depth, with_norm)
    model.load_state_dict(convert(source, 'crosscl').state_dict, strict=True)
    loaded = model.state_dict()
    conv, norm = ('.0.weight', '.1.running_var') if with_norm else ('.weight', None)
    for encoder, prefix in (('encoder_q', ''), ('encoder_k', 'key_encoder.')):
        for name, expected in {
            'backbone.conv1.weight': 'conv1.weight',
            'backbone.layer4.0.downsample.1.running_mean': 'layer4.0.downsample.1.running_mean',
            'neck.projection.mlp.2.bias': 'fc.2.bias',
            'neck.lateral_convs.3.conv.weight': f'fpn_lateral5{conv}',
            'neck.lateral_convs.1.conv.weight': f'fpn_lateral3{conv}',
            'neck.fpn_convs.2.conv.weight': f'fpn_output4{conv}',
            **({'neck.fpn_convs.1.bn.running_var': f'fpn_output3{norm}'} if norm else {}),
        }.items():
            assert torch.equal(loaded[prefix + name], source[f'module.{encoder}.{expected}']), name
    assert torch.equal(loaded['queue.keys'], source['module.queue'].T)
    assert loaded['queue.pointer'].item() == 5
    # the first update must not replace the key encoder
    assert loaded['key_encoder.steps'].item() > 0


def test_averaged_weights_are_the_default_and_raw_weights_are_optional(state):
    # EMAHook stores the average as state_dict, and the raw weights as ema_state_dict
    unaveraged = {f'module.{name}': value for name, value in varied(state).items()}
    checkpoint = dict(state_dict=state, ema_state_dict=unaveraged | {'steps': torch.tensor(9)})
    averaged, raw = identify(checkpoint), identify(checkpoint, raw=True)
    name = 'backbone.layer1.0.conv1.weight'
    assert averaged.kind.endswith(', averaged') and torch.equal(averaged.weights[name], state[name])
    assert 'ema_state_dict' in averaged.skipped
    assert raw.kind.endswith('before averaging') and torch.equal(
        raw.weights[name], unaveraged[f'module.{name}']
    )
    # an averaged model that is saved by itself
    single = identify(dict(checkpoint['ema_state_dict']))
    assert torch.equal(single.weights[name], unaveraged[f'module.{name}'])
    with pytest.raises(InputError, match='no averaged weights; omit --raw'):
        identify(state, raw=True)


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.'])
def test_prefixes_of_wrappers_do_not_matter(state, prefix):
    wrapped = identify({prefix + name: value for name, value in state.items()})
    assert wrapped.weights.keys() == state.keys()
    # only the encoders are compiled
    inner = {k.replace('backbone.', 'backbone._orig_mod.'): v for k, v in state.items()}
    assert identify(inner).weights.keys() == state.keys()


def test_missing_counters_of_frozen_norms_are_added():
    state = torchvision.models.resnet18().state_dict()
    frozen = {k: v for k, v in state.items() if not k.endswith('num_batches_tracked')}
    source = identify(frozen)
    assert source.weights['backbone.bn1.num_batches_tracked'] == 0
    assert convert(frozen, 'timm').state_dict.keys() == {k for k in state if k[:3] != 'fc.'}


def change(state, *drop, **add):
    return {k: v for k, v in state.items() if k not in drop} | {
        k.replace('__', '.'): v for k, v in add.items()
    }


@pytest.mark.parametrize(
    'make, complaint',
    [
        (lambda s: {}, 'not a checkpoint: expected weights, but got nothing'),
        (lambda s: {'epoch': 1, 'lr': 0.1}, 'expected weights, but got epoch, lr'),
        (lambda s: {'state_dict': {'x': 'y'}}, 'expected weights, but got x'),
        (lambda s: {'vit.blocks.0.weight': torch.ones(1)}, 'names such as vit.blocks.0.weight'),
        (
            lambda s: change(s, backbone__layer5__0__conv1__weight=torch.ones(1)),
            '1 unknown name: backbone.layer5.0.conv1.weight',
        ),
        (
            lambda s: change(s, decoder__weight=torch.ones(1)),
            '1 unknown name in a checkpoint of CrossCL of mmcrosscl: decoder.weight',
        ),
        (
            lambda s: change(s, 'backbone.layer3.1.bn2.running_var', 'queue.pointer'),
            # the key encoder still has its running_var
            '2 missing names: backbone.layer3.1.bn2.running_var, queue.pointer',
        ),
        (
            lambda s: change(s, 'key_encoder.neck.fpn_convs.1.conv.bias'),
            '1 missing name: key_encoder.neck.fpn_convs.1.conv.bias',
        ),
        (
            lambda s: change(s, backbone__conv1__weight=torch.ones(64, 1, 7, 7)),
            r'backbone.conv1.weight is \(64, 1, 7, 7\), not \(64, 3, 7, 7\)',
        ),
        (
            lambda s: change(s, neck__lateral_convs__2__conv__weight=torch.ones(())),
            r'neck.lateral_convs.2.conv.weight is \(\), not \(256, 256, 1, 1\)',
        ),
        (
            lambda s: change(s, queue__keys=torch.ones(8, 64)),
            r'queue.keys is \(8, 64\), not \(8, 128\)',
        ),
    ],
)
def test_the_error_names_the_wrong_weights(state, make, complaint):
    with pytest.raises(InputError, match=complaint):
        identify(make(state))


def test_the_error_names_a_few_weights_and_counts_the_rest(state):
    cut = {name: value for name, value in state.items() if 'layer4' not in name}
    with pytest.raises(InputError, match=r'names: (\S+, ){4}\S+ and \d+ more; pass a complete'):
        identify(cut)


def test_a_name_with_a_line_break_is_not_part_of_a_detector():
    weight = torch.zeros(2, 3, 1, 1)
    source = identify({'backbone.a.weight': weight, 'x\ny': weight})
    assert list(source.weights) == ['backbone.a.weight']
    assert list(source.skipped) == ['x\ny']
