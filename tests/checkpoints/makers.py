"""State dicts with the names and shapes of mmcrosscl and other projects, and distinct values."""

import argparse
from copy import deepcopy

import torch
import torchvision
from torch import Tensor, nn

from mmcrosscl.models import CrossCL
from mmcrosscl.registry import MODELS
from tests.models.builders import model_config

# a small state dict for tests of files
STATE = {'a.weight': torch.arange(6.0).reshape(2, 3), 'a.num_batches_tracked': torch.tensor(3)}


def assert_state(state: dict[str, Tensor]) -> None:
    """Assert that ``state`` equals STATE."""
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], value) for name, value in STATE.items())


def varied(state: dict[str, Tensor], prefix: str = '') -> dict[str, Tensor]:
    """Return a state dict with the same names and shapes, and random values."""
    return {prefix + name: _values(name, value) for name, value in state.items()}


def _values(name: str, like: Tensor) -> Tensor:
    if like.dtype == torch.long:
        return torch.randint_like(like, 1, 100) if like.numel() else like
    if like.dim() > 1:
        return torch.randn_like(like) * (2 / like[0].numel()) ** 0.5
    return torch.rand_like(like) + (0 if name.endswith('mean') else 0.5)


def crosscl(depth: int = 18, with_norm: bool = False, queue_len: int = 8) -> CrossCL:
    """Build a CrossCL in eval mode with random weights whose features have a moderate scale."""
    norm = dict(type='BN') if with_norm else None
    model = MODELS.build(model_config(depth, queue_len=queue_len, norm_cfg=norm))
    state = varied(model.state_dict())
    state['queue.pointer'] = torch.tensor(5)
    model.load_state_dict(state)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for module in norms:
        module.momentum = 1.0
    with torch.no_grad():
        model.neck(model.backbone(torch.randn(4, 3, 64, 64)))
    for module in norms:
        module.momentum = 0.1
    return model.eval()


def features(model: CrossCL, image: Tensor) -> dict[str, Tensor]:
    """Return C2 to C5, P3 and P4 of the query encoder, computed in contiguous memory layout.

    Other projects use this layout. A different layout changes the order of summation, which changes
    values by 1e-5.
    """
    model = deepcopy(model).to(memory_format=torch.contiguous_format)
    model.backbone.out_indices = (0, 1, 2, 3)
    with torch.no_grad():
        stages = model.backbone(image)
        pyramid = model.neck(stages[1:])
    return {f'c{i + 2}': x for i, x in enumerate(stages)} | {k: pyramid[k] for k in ('p3', 'p4')}


def reference(depth: int = 50, with_norm: bool = False, queue_len: int = 8) -> dict[str, Tensor]:
    """Return the state dict of CrossCL's reference implementation; ReSim has the same names."""
    encoder = getattr(torchvision.models, f'resnet{depth}')()
    width = encoder.fc.in_features
    encoder.fc = _projection(width)
    channels = {5: width, 4: width // 2, 3: width // 4}
    for name in ('lateral5', 'lateral4', 'lateral3', 'output4', 'output3'):
        lateral = name.startswith('lateral')
        inputs = channels[int(name[-1])] if lateral else 256
        conv = nn.Conv2d(inputs, 256, 1 if lateral else 3, bias=not with_norm)
        if with_norm:
            conv = nn.Sequential(conv, nn.BatchNorm2d(256))
        encoder.add_module(f'fpn_{name}', conv)
    return _contrastive(encoder, queue_len)


def resnet(prefix: str = '', depth: int = 18) -> dict[str, Tensor]:
    """Return the state dict of a torchvision ResNet without its classifier."""
    state = getattr(torchvision.models, f'resnet{depth}')().state_dict()
    return varied({n: value for n, value in state.items() if not n.startswith('fc.')}, prefix)


def sequential(prefix: str = '', depth: int = 18) -> dict[str, Tensor]:
    """Return the state dict of an ``nn.Sequential`` of the children of a torchvision ResNet."""
    model = getattr(torchvision.models, f'resnet{depth}')()
    return varied(nn.Sequential(*list(model.children())[:-1]).state_dict(), prefix)


def swav() -> dict:
    """Return a checkpoint of SwAV or DeepCluster v2: a ResNet with further layers."""
    return (
        resnet('module.')
        | linear('module.projection_head.0')
        | linear('module.prototypes', bias=False)
    )


def dino() -> dict:
    """Return a training checkpoint of DINO: two networks, and the arguments of the command."""
    networks = {
        name: resnet(f'{wrapper}backbone.') | linear(f'{wrapper}head.mlp.0')
        for name, wrapper in (('student', 'module.'), ('teacher', ''))
    }
    args = argparse.Namespace(arch='resnet18', lr=0.1)
    loss = dict(center=torch.ones(1, 4))
    optimizer = dict(state={}, param_groups=[])
    return dict(networks, args=args, epoch=3, dino_loss=loss, optimizer=optimizer)


def vicreg() -> dict:
    """Return a training checkpoint of VICReg or Barlow Twins."""
    state = resnet('module.backbone.') | linear('module.projector.0')
    return dict(epoch=3, model=state, optimizer=dict(state={}))


def pixpro(fpn: bool = False) -> dict:
    """Return a training checkpoint of PixPro, or of SoCo with an FPN from C2."""
    state = {}
    for encoder, suffix in (('encoder', ''), ('encoder_k', '_k')):
        state |= resnet(f'module.{encoder}.') | linear(f'module.projector{suffix}.linear1')
        for level, width in enumerate((64, 128, 256, 512) if fpn else ()):
            for name, conv in (
                ('lateral_convs', nn.Conv2d(width, 256, 1)),
                ('fpn_convs', nn.Conv2d(256, 256, 3)),
            ):
                state |= varied(conv.state_dict(), f'module.neck{suffix}.{name}.{level}.conv.')
    return dict(opt=argparse.Namespace(arch='resnet18'), model=state, epoch=3)


def slotcon() -> dict:
    """Return a training checkpoint of SlotCon."""
    state = {}
    for side in 'qk':
        state |= resnet(f'module.encoder_{side}.') | linear(f'module.projector_{side}.linear1')
        state |= linear(f'module.grouping_{side}.slot_embd', bias=False)
    return dict(args=argparse.Namespace(), model=state, epoch=3)


def solo_learn() -> dict:
    """Return a Lightning checkpoint of solo-learn."""
    state = resnet('backbone.') | resnet('momentum_backbone.') | linear('projector.0')
    return dict(epoch=3, state_dict=state | linear('classifier'))


def lightly() -> dict:
    """Return a Lightning checkpoint of a model that is built with lightly."""
    state = sequential('backbone.') | sequential('backbone_momentum.')
    return dict(epoch=3, state_dict=state | linear('projection_head.layers.0'))


def lightly_train() -> dict:
    """Return a Lightning checkpoint of lightly-train."""
    state = {}
    for side in ('teacher', 'student'):
        state |= resnet(f'{side}_embedding_model.wrapped_model._model.')
        state |= linear(f'{side}_projection_head.layers.0')
    return dict(epoch=3, state_dict=state)


def byol() -> dict:
    """Return a checkpoint of a port of BYOL: two networks, each a sequence."""
    networks = {f'{x}_network_state_dict': sequential('encoder.') for x in ('online', 'target')}
    return dict(networks, optimizer_state_dict=dict(state={}))


def moco_v3() -> dict:
    """Return a training checkpoint of MoCo v3 or SimSiam."""
    state = resnet('module.base_encoder.') | resnet('module.momentum_encoder.')
    return dict(arch='resnet18', state_dict=state | linear('module.predictor.0'))


def linear(name: str, bias: bool = True) -> dict[str, Tensor]:
    """Return the state dict of a small linear layer."""
    state = nn.Linear(4, 4, bias=bias).state_dict()
    return {f'{name}.{field}': value for field, value in state.items()}


def moco(version: int, depth: int = 18) -> dict[str, Tensor]:
    """Return the state dict of MoCo v1 or v2."""
    encoder = getattr(torchvision.models, f'resnet{depth}')()
    width = encoder.fc.in_features
    encoder.fc = nn.Linear(width, 128) if version == 1 else _projection(width)
    return _contrastive(encoder, 16)


def densecl(depth: int = 18) -> dict[str, Tensor]:
    """Return the state dict of DenseCL: sequential encoders, two queues, a copy of the backbone."""
    backbone = getattr(torchvision.models, f'resnet{depth}')()
    width = backbone.fc.in_features
    del backbone.fc
    neck = nn.Module()
    neck.mlp = _projection(width)
    neck.mlp2 = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, 128, 1))
    state = _contrastive(nn.Sequential(backbone, neck), 16)
    state = {name.removeprefix('module.'): value for name, value in state.items()}
    state |= {'queue2': torch.rand(128, 16), 'queue2_ptr': torch.tensor([3])}
    for name in backbone.state_dict():
        state[f'backbone.{name}'] = state[f'encoder_q.0.{name}']
    return state


def _projection(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 128))


def _contrastive(encoder: nn.Module, queue_len: int) -> dict[str, Tensor]:
    state = varied(encoder.state_dict(), 'module.encoder_q.')
    state |= varied(encoder.state_dict(), 'module.encoder_k.')
    state['module.queue'] = torch.rand(128, queue_len)
    state['module.queue_ptr'] = torch.tensor([5])
    return state
