import copy
from pathlib import Path

import pytest
import torch
from mmengine.registry import OPTIM_WRAPPERS

from mmcrosscl.registry import MODELS
from tests.models.builders import make_batch, model_config


def wrapper(model, kind, **settings):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03 * 8 / 256, momentum=0.9)
    return OPTIM_WRAPPERS.build(dict(type=kind, optimizer=optimizer, **settings))


def test_layers_run_in_bfloat16_and_weights_stay_in_float32():
    model = torch.nn.Linear(4, 4)
    wrapped = wrapper(model, 'mmcrosscl.BFloat16OptimWrapper')
    with wrapped.optim_context(model):
        assert model(torch.ones(2, 4)).dtype == torch.bfloat16
    assert model(torch.ones(2, 4)).dtype == torch.float32
    assert model.weight.dtype == torch.float32


def test_gradients_accumulate_as_in_mmengine():
    model = torch.nn.Linear(4, 1)
    wrapped = wrapper(model, 'mmcrosscl.BFloat16OptimWrapper', accumulative_counts=2)
    before = model.weight.clone()
    for changed in (False, True):
        with wrapped.optim_context(model):
            loss = model(torch.ones(2, 4)).float().mean()
        wrapped.update_params(loss)
        assert torch.equal(model.weight, before) != changed


@pytest.mark.slow(50)
@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
def test_losses_differ_from_float32_by_less_than_one_percent(device):
    """Over 100 steps, or over 6 on CPUs that emulate bfloat16, where a step takes seconds."""
    native = device == 'cuda' or 'avx512_bf16' in Path('/proc/cpuinfo').read_text()
    steps = 100 if native else 6
    exact = MODELS.build(model_config(queue_len=64)).to(device).train()
    models = [exact, copy.deepcopy(exact)]
    wrappers = [
        wrapper(model, kind)
        for model, kind in zip(models, ('OptimWrapper', 'mmcrosscl.BFloat16OptimWrapper'))
    ]
    curves = [[], []]
    for step in range(steps):
        views, samples = make_batch(96, images=8, seed=step, key_crop=(0.1, 0.0, 0.8, 0.9))
        generator = torch.Generator().manual_seed(step)
        # both views show the same blurred shapes
        shapes = torch.randn(8, 3, 12, 12, generator=generator)
        shapes = torch.nn.functional.interpolate(shapes, scale_factor=8, mode='bilinear')
        views = [(shapes + 0.3 * view).to(device) for view in views]
        for model, wrapped, curve in zip(models, wrappers, curves):
            log = model.train_step(dict(inputs=views, data_samples=samples), wrapped)
            assert log['loss'].dtype == torch.float32
            curve.append(log['loss'].item())
    full, half = torch.tensor(curves)
    # the loss decreases
    assert steps < 100 or full[-10:].mean() < 0.9 * full[:10].mean()
    assert not torch.equal(full, half)
    assert ((half - full).abs() / full).max() < 0.01
