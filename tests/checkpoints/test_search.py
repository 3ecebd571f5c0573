"""A ResNet is found in the checkpoints of projects that the package does not name."""

import pytest
import torch
import torchvision
from mmengine.config import Config

from mmcrosscl.checkpoints import convert, convert_file, identify, read_checkpoint
from mmcrosscl.errors import InputError
from tests.checkpoints import makers
from tests.checkpoints.makers import linear, resnet, sequential

# maker, the encoder that is used, and the place in the description
PROJECTS = [
    (makers.swav, 'module.', ''),
    (makers.dino, 'teacher/backbone.', ' in teacher.backbone'),
    (makers.vicreg, 'module.backbone.', ' in backbone'),
    (makers.pixpro, 'module.encoder.', ' in encoder'),
    (lambda: makers.pixpro(fpn=True), 'module.encoder.', ' in encoder'),
    (makers.slotcon, 'module.encoder_q.', ' in encoder_q'),
    (makers.solo_learn, 'backbone.', ' in backbone'),
    (makers.lightly, 'backbone.', ' in backbone'),
    (
        makers.lightly_train,
        'teacher_embedding_model.wrapped_model._model.',
        ' in teacher_embedding_model.wrapped_model._model',
    ),
    (
        makers.byol,
        'online_network_state_dict/encoder.',
        ' in online_network_state_dict.encoder',
    ),
    (makers.moco_v3, 'module.base_encoder.', ' in base_encoder'),
]


def encoder(checkpoint, where):
    """Return the state dict of an encoder, as a torchvision ResNet loads it."""
    entry, _, prefix = where.rpartition('/')
    state = checkpoint.get(entry or 'state_dict', checkpoint.get('model', checkpoint))
    state = {n.removeprefix(prefix): x for n, x in state.items() if n.startswith(prefix)}
    layers = dict(zip('014567', ('conv1', 'bn1', 'layer1', 'layer2', 'layer3', 'layer4')))
    return {
        f'{layers.get(layer, layer)}.{rest}': value
        for layer, _, rest, value in ((*n.partition('.'), x) for n, x in state.items())
    }


@pytest.mark.parametrize('make, where, place', PROJECTS)
def test_the_resnet_is_found_and_computes_the_same_features(make, where, place, tmp_path):
    # the file is read safely, with the arguments that some projects save
    torch.save(make(), tmp_path / 'x.pth')
    checkpoint = read_checkpoint(tmp_path / 'x.pth')
    source = identify(checkpoint)
    assert source.kind == f'ResNet-18{place}'
    models = [torchvision.models.resnet18().eval() for _ in range(2)]
    result = models[0].load_state_dict(encoder(checkpoint, where), strict=False)
    assert result.missing_keys == ['fc.weight', 'fc.bias']
    result = models[1].load_state_dict(convert(checkpoint, 'torchvision').contents(), strict=False)
    assert result.missing_keys == ['fc.weight', 'fc.bias'] and not result.unexpected_keys
    for model in models:
        model.fc = torch.nn.Identity()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(models[0](image), models[1](image))
    reasons = {str(why).partition(';')[0] for why in source.skipped.values()}
    assert reasons <= {'not part of the ResNet', 'part of another encoder'} and reasons


def test_an_fpn_next_to_the_resnet_is_converted():
    checkpoint = makers.pixpro(fpn=True)
    state = convert(checkpoint, 'mmdet').state_dict
    for level in range(4):
        for convs in ('lateral_convs', 'fpn_convs'):
            name = f'neck.{convs}.{level}.conv.weight'
            assert torch.equal(state[name], checkpoint['model'][f'module.{name}'])


def test_an_fpn_with_the_names_of_detectron2_is_converted():
    state = resnet('encoder.backbone.')
    state |= {'encoder.fpn_lateral5.weight': torch.ones(8, 512, 1, 1)}
    state |= {'encoder.fpn_lateral5.bias': torch.ones(8)}
    state |= {'encoder.fpn_output5.weight': torch.ones(8, 8, 3, 3)}
    state |= {
        f'encoder.fpn_output5.norm.{field}': torch.ones(8)
        for field in ('weight', 'bias', 'running_mean', 'running_var')
    }
    converted = convert(state, 'mmdet').state_dict
    assert {name for name in converted if name.startswith('neck.')} == {
        *(f'neck.lateral_convs.3.conv.{field}' for field in ('weight', 'bias')),
        'neck.fpn_convs.3.conv.weight',
        *(
            f'neck.fpn_convs.3.bn.{field}'
            for field in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
        ),
    }


def test_an_incomplete_fpn_is_named():
    state = resnet('encoder.') | {'neck.lateral_convs.3.conv.weight': torch.ones(8, 512, 1, 1)}
    with pytest.raises(InputError, match='1 missing name: neck.lateral_convs.3.conv.bias'):
        identify(state)


@pytest.mark.parametrize('depth', [34, 50, 101])
def test_every_depth_is_found(depth):
    source = identify(resnet('net.trunk.', depth) | linear('net.head'))
    assert source.kind == f'ResNet-{depth} in net.trunk'
    assert source.skipped == {
        f'net.head.{field}': 'not part of the ResNet' for field in ('weight', 'bias')
    }


def test_several_resnets_are_listed_and_a_prefix_selects_one(tmp_path):
    state = resnet('image.encoder.') | resnet('sketch.encoder.') | linear('head')
    with pytest.raises(
        InputError,
        match='below the prefixes image.encoder., sketch.encoder.; choose one with `mm',
    ):
        identify(state)
    for prefix in ('sketch.encoder.', 'sketch.'):
        source = identify(state, prefix=prefix)
        assert torch.equal(
            source.weights['backbone.conv1.weight'], state['sketch.encoder.conv1.weight']
        )
        assert len(source.origin) + len(source.skipped) == len(state)
    torch.save(state, tmp_path / 'a.pth')
    report = convert_file(tmp_path / 'a.pth', tmp_path / 'b.pth', 'timm', prefix='image.')
    assert report.startswith(f'{tmp_path / "a.pth"}: ResNet-18 in image.encoder\n')
    assert torch.equal(
        read_checkpoint(tmp_path / 'b.pth')['bn1.weight'], state['image.encoder.bn1.weight']
    )


def test_equal_resnets_are_not_ambiguous():
    state = resnet('a.')
    state |= {name.replace('a.', 'b.', 1): value.clone() for name, value in state.items()}
    assert identify(state).kind == 'ResNet-18 in a'


@pytest.mark.parametrize('make', [makers.dino, lambda: makers.moco(2)])
def test_a_prefix_selects_another_encoder_of_a_known_method(make):
    checkpoint = make()
    prefix = 'student.' if 'student' in checkpoint else 'module.encoder_k.'
    name = 'module.backbone.conv1.weight' if 'student' in checkpoint else f'{prefix}conv1.weight'
    expected = checkpoint.get('student', checkpoint)[name]
    weights = identify(checkpoint, prefix=prefix).weights
    assert torch.equal(weights['backbone.conv1.weight'], expected)
    assert all(name.startswith('backbone.') for name in weights)


def test_a_prefix_without_a_resnet_is_refused():
    for prefix in ('encoder_q.fc.', 'nothing.'):
        with pytest.raises(InputError, match=f'no ResNet-18 to -152 is below the prefix {prefix}'):
            identify(makers.moco(2), prefix=prefix)


@pytest.mark.parametrize('make', [resnet, sequential])
@pytest.mark.parametrize('prefix', ['encoder.', 'backbone.'])
def test_an_incomplete_resnet_is_named(make, prefix):
    state = make(prefix) | linear('head.fc') | linear('projector.0')
    state = {n: x for n, x in state.items() if not n.endswith('.1.conv2.weight')}
    with pytest.raises(InputError, match='4 missing names: backbone.layer1.1.conv2.weight'):
        identify(state)


def test_other_backbones_are_not_found():
    wide = torchvision.models.wide_resnet50_2().state_dict()
    with pytest.raises(InputError, match='no known checkpoint format has names such as'):
        identify({f'encoder.{name}': value for name, value in wide.items()})


def test_the_config_in_the_checkpoint_counts(tmp_path):
    preprocessor = dict(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=True)
    cfg = Config(dict(model=dict(type='DETR', data_preprocessor=preprocessor)))
    state = resnet('backbone.') | linear('encoder.layers.0')
    source = identify(dict(state_dict=state, meta=dict(cfg=cfg.pretty_text)))
    assert source.input_format.mean == (1, 2, 3)
