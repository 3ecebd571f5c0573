"""A converted checkpoint gives the same features as the pre-training model in every format."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from mmdet.registry import MODELS as MMDET
from mmengine.config import Config
from mmengine.utils import get_installed_path
from mmpretrain.registry import MODELS as MMPRETRAIN
from torch.testing import assert_close

from mmcrosscl.checkpoints import TARGETS, convert
from mmcrosscl.errors import InputError
from tests.checkpoints.detectron2_like import Detector
from tests.checkpoints.makers import crosscl, densecl, features, moco, reference
from tests.models.builders import make_batch

CLOSE = dict(rtol=1e-5, atol=1e-5)


@pytest.fixture(scope='module', params=[(18, False), (50, False), (18, True)], ids=str)
def trained(request):
    """Depth, presence of norms in the pyramid, state dict, an image and its features."""
    depth, norm = request.param
    torch.manual_seed(0)
    model = crosscl(depth, norm)
    image = torch.randn(1, 3, 96, 128)
    expected = features(model, image)
    # with very small or large features, the comparisons below would be meaningless
    assert all(0.01 < x.std() < 100 for x in expected.values())
    return depth, norm, model.state_dict(), image, expected


def detector(name, depth, norm):
    """Build a detector from one of the base configs of MMDetection."""
    configs = Path(get_installed_path('mmdet'), '.mim/configs')
    cfg = Config.fromfile(configs / f'_base_/models/{name}.py').model
    scale = 1 if depth == 50 else 4
    cfg.backbone.update(depth=depth, init_cfg=None)
    cfg.neck.in_channels = [width // scale for width in cfg.neck.in_channels]
    cfg.neck.norm_cfg = dict(type='BN') if norm else None
    return MMDET.build(dict(cfg, _scope_='mmdet')).eval()


@pytest.mark.slow
@pytest.mark.parametrize('name, start_level', [('mask-rcnn_r50_fpn', 0), ('retinanet_r50_fpn', 1)])
def test_a_detector_of_mmdet_computes_the_same_features(trained, name, start_level):
    depth, norm, state, image, expected = trained
    model = detector(name, depth, norm)
    result = model.load_state_dict(convert(state, 'mmdet', start_level).state_dict, strict=False)
    assert not result.unexpected_keys
    assert not [key for key in result.missing_keys if key.startswith('backbone.')]
    with torch.no_grad():
        stages = model.backbone(image)
        pyramid = model.neck(stages)
    for level, stage in zip(('c2', 'c3', 'c4', 'c5'), stages):
        assert_close(stage, expected[level], **CLOSE)
    assert_close(pyramid[1 - start_level], expected['p3'], **CLOSE)
    assert_close(pyramid[2 - start_level], expected['p4'], **CLOSE)


def test_detectron2_computes_the_same_features(trained):
    depth, norm, state, image, expected = trained
    model = Detector(depth, norm).eval()
    random = model.load(convert(state, 'detectron2').contents())
    assert {name.split('.')[1] for name in random} == {'fpn_lateral2', 'fpn_output2', 'fpn_output5'}
    result = model(image)
    for level, value in expected.items():
        assert_close(result[level], value, **CLOSE)


def test_torchvision_computes_the_same_features(trained):
    depth, _, state, image, expected = trained
    model = getattr(torchvision.models, f'resnet{depth}')(weights=None)
    model.fc = torch.nn.Identity()
    model.load_state_dict(convert(state, 'torchvision').contents(), strict=True)
    layers = {f'layer{i}': f'c{i + 1}' for i in (1, 2, 3, 4)}
    cut = torchvision.models.feature_extraction.create_feature_extractor(model.eval(), layers)
    with torch.no_grad():
        for level, value in cut(image).items():
            assert_close(value, expected[level], **CLOSE)


def test_timm_computes_the_same_features(trained):
    depth, _, state, image, expected = trained
    model = timm.create_model(f'resnet{depth}', pretrained=False, num_classes=0).eval()
    model.load_state_dict(convert(state, 'timm').contents(), strict=True)
    with torch.no_grad():
        stages = model.forward_intermediates(image, indices=[1, 2, 3, 4], intermediates_only=True)
    for level, value in zip(('c2', 'c3', 'c4', 'c5'), stages):
        assert_close(value, expected[level], **CLOSE)


def test_mmpretrain_loads_the_backbone(trained):
    depth, _, state, image, expected = trained
    cfg = dict(type='ResNet', depth=depth, out_indices=(0, 1, 2, 3), _scope_='mmpretrain')
    model = torch.nn.Module()
    model.backbone = MMPRETRAIN.build(cfg)
    model.backbone.eval()
    model.load_state_dict(convert(state, 'mmdet-backbone').state_dict, strict=True)
    with torch.no_grad():
        for level, value in zip(('c2', 'c3', 'c4', 'c5'), model.backbone(image)):
            assert_close(value, expected[level], **CLOSE)


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == value.dtype and torch.equal(state[name], value), name


@pytest.mark.parametrize('to', TARGETS)
def test_a_round_trip_is_the_identity(trained, to):
    _, _, state, _, _ = trained
    converted = convert(state, to)
    back = convert(converted.contents(), 'crosscl').state_dict
    assert_same(back, {name: state[name] for name in back})
    assert_same(convert(back, to).state_dict, converted.state_dict)
    expected = {'crosscl': state.keys()}.get(
        to, {n for n in state if n.startswith(('backbone.', 'neck.')) and 'projection' not in n}
    )
    if to in ('mmdet-backbone', 'torchvision', 'timm'):
        expected = {name for name in expected if name.startswith('backbone.')}
    assert back.keys() == expected


def test_levels_of_a_pyramid_from_c3_are_renumbered(trained):
    _, _, state, _, _ = trained
    from_c3 = convert(state, 'mmdet', start_level=1)
    assert 'neck.lateral_convs.0.conv.weight' in from_c3.state_dict
    assert_same(convert(from_c3.contents(), 'mmdet').state_dict, convert(state, 'mmdet').state_dict)


def test_a_complete_detector_is_converted_without_its_heads():
    model = detector('retinanet_r50_fpn', 18, False)
    result = convert(model.state_dict(), 'crosscl')
    # C3 to C5 and P3 to P5 keep their levels; P6 and P7 are skipped
    assert_same(
        {k: v for k, v in result.state_dict.items() if 'neck.fpn_convs.1' in k},
        {k.replace('convs.0', 'convs.1'): v for k, v in model.state_dict().items()
         if 'neck.fpn_convs.0' in k},
    )  # fmt: skip
    assert {name.split('.')[0] for name in result.skipped} == {'bbox_head', 'neck'}
    assert {n.split('.')[2] for n in result.skipped if n.startswith('neck.')} == {'3', '4'}


@pytest.mark.parametrize('make', [lambda: moco(1), lambda: moco(2), densecl], ids=['1', '2', 'd'])
def test_related_methods_are_converted_without_their_key_encoder(make):
    state = make()
    result = convert({'state_dict': state, 'arch': 'resnet18'}, 'crosscl')
    missing = crosscl().load_state_dict(result.state_dict, strict=False)
    assert not missing.unexpected_keys
    assert not [name for name in missing.missing_keys if name.startswith('backbone.')]
    assert 'key_encoder.steps' in missing.missing_keys
    prefix = 'encoder_q.0.' if 'queue2' in state else 'module.encoder_q.'
    name = 'layer2.0.downsample.0.weight'
    assert torch.equal(result.state_dict[f'backbone.{name}'], state[prefix + name])
    assert len(result.origin) + len(result.skipped) == len(state)


def test_training_can_start_from_a_checkpoint_of_the_reference():
    model = crosscl().train()
    model.load_state_dict(convert(reference(18), 'crosscl').state_dict, strict=True)
    before = model.key_encoder.backbone.conv1.weight.clone()
    with torch.no_grad():
        model.loss(*make_batch(images=2))
    expected = before.lerp(model.backbone.conv1.weight, 0.001)
    torch.testing.assert_close(model.key_encoder.backbone.conv1.weight, expected)
    assert model.queue.pointer.item() == 7


def test_the_table_has_every_tensor():
    result = convert(reference(18), 'mmdet')
    lines = result.table().splitlines()
    gap = lines.index('')
    moved = sum(int(line.split()[2]) for line in lines[1:gap])
    skipped = sum(int(line.split()[-1]) for line in lines[gap + 2 :])
    assert lines[gap + 1].split() == ['skipped', 'why', 'tensors']
    assert moved == len(result.state_dict) and moved + skipped == len(reference(18))
    assert lines[0].split() == ['from', 'to', 'tensors', 'elements']
    assert any('encoder_q.fc.' in line and 'the projection' in line for line in lines)


@pytest.mark.parametrize(
    'arguments, complaint',
    [
        (dict(to='caffe'), "unknown target 'caffe'; choose one of crosscl"),
        (dict(to='timm', start_level=1), 'omit it for timm'),
    ],
)
def test_wrong_arguments_are_named(arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        convert(crosscl().state_dict(), **arguments)


def test_a_backbone_other_than_a_resnet_converts_only_to_mmdet():
    state = {'backbone.stages.0.weight': torch.ones(2), 'queue.keys': torch.ones(4, 2)}
    assert list(convert(state, 'mmdet').state_dict) == ['backbone.stages.0.weight']
    with pytest.raises(InputError, match='not a ResNet, which detectron2 requires'):
        convert(state, 'detectron2')
