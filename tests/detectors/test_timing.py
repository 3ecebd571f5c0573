import pytest
import torch

from mmcrosscl.datasets import UnlabeledDataset
from mmcrosscl.detectors import seconds_per_iteration
from mmcrosscl.engine import load_config
from mmcrosscl.models import CrossCL


@pytest.mark.parametrize(
    ('wrapper', 'expected'), [('FiniteOptimWrapper', False), ('BFloat16OptimWrapper', True)]
)
@pytest.mark.slow(5)
def test_the_step_is_timed_in_the_precision_of_the_training(
    photos, tmp_path, monkeypatch, wrapper, expected
):
    seen = []
    forward = CrossCL.forward

    def record(model, *args, **kwargs):
        seen.append(torch.is_autocast_enabled(next(model.parameters()).device.type))
        return forward(model, *args, **kwargs)

    monkeypatch.setattr(CrossCL, 'forward', record)
    options = {'optim_wrapper.type': f'mmcrosscl.{wrapper}', 'train_dataloader.batch_size': 2}
    cfg = load_config('configs/crosscl/r18_demo.py', work_dir=tmp_path, options=options)
    assert seconds_per_iteration(cfg, UnlabeledDataset(data_root=str(photos))) > 0
    assert seen and set(seen) == {expected}
