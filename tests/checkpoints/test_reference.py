import pytest
import torch
from torchvision.models import resnet50

from mmcrosscl.checkpoints import from_reference
from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS
from tests.models.builders import make_batch, model_config


def reference(depth=50, with_norm=False, queue_len=8):
    """A state dict with the names and shapes of the reference, all values different."""
    import torchvision

    encoder = getattr(torchvision.models, f'resnet{depth}')()
    width = encoder.fc.in_features
    encoder.fc = torch.nn.Sequential(
        torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 128)
    )
    channels = {5: width, 4: width // 2, 3: width // 4}
    for name, kernel in (
        ('lateral5', 1),
        ('lateral4', 1),
        ('lateral3', 1),
        ('output4', 3),
        ('output3', 3),
    ):
        inputs = channels[int(name[-1])] if kernel == 1 else 256
        conv = torch.nn.Conv2d(inputs, 256, kernel, bias=not with_norm)
        if with_norm:
            conv = torch.nn.Sequential(conv, torch.nn.BatchNorm2d(256))
        encoder.add_module(f'fpn_{name}', conv)
    state = {}
    for encoder_name in ('encoder_q', 'encoder_k'):
        for name, value in encoder.state_dict().items():
            state[f'module.{encoder_name}.{name}'] = torch.rand(value.shape).to(value.dtype)
    state['module.queue'] = torch.rand(128, queue_len)
    state['module.queue_ptr'] = torch.tensor([5])
    return state


def build(depth, with_norm):
    return MODELS.build(
        model_config(depth, queue_len=8, norm_cfg=dict(type='BN') if with_norm else None)
    )


@pytest.mark.parametrize('with_norm', [False, True])
@pytest.mark.parametrize('depth', [18, 50])
def test_it_loads_strictly_and_puts_every_value_where_it_belongs(depth, with_norm):
    theirs = reference(depth, with_norm)
    model = build(depth, with_norm)
    model.load_state_dict(from_reference(theirs), strict=True)
    ours = model.state_dict()
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
            assert torch.equal(ours[prefix + name], theirs[f'module.{encoder}.{expected}']), name
    assert torch.equal(ours['queue.keys'], theirs['module.queue'].T)
    assert ours['queue.pointer'].item() == 5


def test_training_goes_on_with_its_key_encoder():
    model = build(18, False).train()
    model.load_state_dict(from_reference(reference(18)))
    before = model.key_encoder.backbone.conv1.weight.clone()
    with torch.no_grad():
        model.loss(*make_batch(images=2))
    expected = before.lerp(model.backbone.conv1.weight, 0.001)
    torch.testing.assert_close(model.key_encoder.backbone.conv1.weight, expected)
    assert model.queue.pointer.item() == 7


def test_names_without_module_are_taken_too():
    theirs = {name.removeprefix('module.'): v for name, v in reference(18).items()}
    build(18, False).load_state_dict(from_reference(theirs))


def test_unknown_names_are_listed():
    theirs = reference(18)
    theirs['module.encoder_q.fpn_lateral2.weight'] = torch.zeros(1)
    theirs['module.extra'] = torch.zeros(1)
    with pytest.raises(InputError, match='2 unknown names: encoder_q.fpn_lateral2.weight, extra;'):
        from_reference(theirs)


def test_missing_names_are_listed():
    theirs = reference(50)
    del theirs['module.encoder_k.layer3.5.bn2.running_var'], theirs['module.queue_ptr']
    with pytest.raises(
        InputError, match='2 missing names: encoder_k.layer3.5.bn2.running_var, queue_ptr;'
    ):
        from_reference(theirs)


def test_another_kind_of_checkpoint_is_refused():
    with pytest.raises(InputError, match='not a CrossCL checkpoint of the reference'):
        from_reference(resnet50().state_dict())
    with pytest.raises(InputError, match='missing names'):
        from_reference({})
