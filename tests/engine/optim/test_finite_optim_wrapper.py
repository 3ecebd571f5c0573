import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.engine import FiniteOptimWrapper
from tests.engine.optim.skipped_updates import FUSED
from tests.engine.toys import TinyNet, toy, train


def wrapped(fused, momentum=0.9):
    layer = nn.Linear(2, 1).double()
    settings = dict(lr=0.01, momentum=momentum, weight_decay=0.01)
    if fused:
        settings['fused'] = True
    return layer, FiniteOptimWrapper(optimizer=torch.optim.SGD(layer.parameters(), **settings))


@pytest.mark.parametrize('fused', [FUSED, False])
@pytest.mark.parametrize('bad', [[0], [1], [0, 1, 3], [2, 3]])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('where', ['loss', 'gradient'])
def test_a_skipped_update_changes_nothing(where, value, bad, fused):
    """A NaN/Inf loss may have finite gradients, and a finite loss may have NaN/Inf gradients."""
    layer, wrapper = wrapped(fused)
    twin, plain = wrapped(False)
    twin.load_state_dict(layer.state_dict())
    factor = 1.0
    layer.weight.register_hook(lambda gradient: gradient * factor)
    for step in range(5):
        x = torch.tensor([[1.0, step]], dtype=torch.double)
        factor = value if step in bad and where == 'gradient' else 1.0
        loss = layer(x).square().sum()
        wrapper.update_params(loss + (value if step in bad and where == 'loss' else 0))
        assert wrapper.skipped == (step in bad)
        if step not in bad:
            plain.update_params(twin(x).square().sum())
        assert torch.allclose(layer.weight, twin.weight)
        assert torch.allclose(layer.bias, twin.bias)


@pytest.mark.gpu
def test_a_fused_update_does_not_synchronize_with_the_gpu():
    layer = nn.Linear(2, 1).cuda()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, fused=True)
    wrapper = FiniteOptimWrapper(optimizer=optimizer)
    x = torch.ones(1, 2).cuda()
    wrapper.update_params(layer(x).sum())
    before = layer.weight.clone()
    torch.cuda.set_sync_debug_mode('error')
    try:
        wrapper.update_params(layer(x).sum() * torch.nan)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert wrapper.skipped and torch.equal(layer.weight, before)


def test_several_optimizers_are_trained(tmp_path):
    """Such a wrapper has no `should_update`, and the hook has no effect."""
    cfg = toy(tmp_path)
    cfg.optim_wrapper = dict(constructor='NamedOptimizers')
    cfg.model.type = 'ManyOptimizers'
    runner = train(cfg)
    assert runner.iter == 12 and read_checkpoint(tmp_path / 'epoch_3.pth')['optimizer']


@MODELS.register_module()
class ManyOptimizers(TinyNet):
    """A model whose optimizers have names."""

    def train_step(self, data, optim_wrapper):
        loss = self(**self.data_preprocessor(data, True), mode='loss')['loss']
        optim_wrapper['all'].update_params(loss)
        return dict(loss=loss.detach())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NamedOptimizers:
    """Builds optimizers with names."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        pass

    def __call__(self, model):
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        return OptimWrapperDict(all=OptimWrapper(sgd))
