from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.utils import get_installed_path
from mmpretrain.registry import MODELS as MMPRETRAIN

from mmcrosscl.checkpoints import convert, convert_for_model
from mmcrosscl.errors import InputError
from tests.checkpoints.makers import crosscl, reference


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
