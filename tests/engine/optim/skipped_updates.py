"""Runs of a tiny model whose losses are NaN/Inf in some iterations, and what they leave."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.compat.fused_optimizer import supports_fused
from tests.engine import runs

FUSED = pytest.param(
    True,
    marks=pytest.mark.skipif(
        not supports_fused(torch.optim.SGD, 'cpu'),
        reason='this release of torch has no fused SGD for CPUs',
    ),
)


def poisoned(
    folder: Path,
    iterations: list[int],
    rank: int = 0,
    limit: int = 3,
    scaling: dict | None = None,
    **settings,
) -> Config:
    """Return the config of a run whose losses are infinite in some iterations of one rank."""
    cfg = runs.tiny_run(folder, **settings)
    cfg.custom_hooks = [dict(type='Poison', iterations=iterations, rank=rank)]
    if scaling is not None:
        cfg.custom_hooks.append(dict(type='ScaleLoss', **scaling))
        # the runner removes this setting if the config scales the loss
        del cfg.optim_wrapper.optimizer['fused']
    cfg.default_hooks.non_finite.limit = limit
    return cfg


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights, buffers and momentum buffers of a checkpoint."""
    state = read_checkpoint(path)
    weights = dict(state['state_dict'])
    for number, moments in state['optimizer']['state'].items():
        weights[f'momentum.{number}'] = moments['momentum_buffer']
    return weights
