"""Optimizer wrapper for mixed precision in bfloat16."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mmcrosscl.registry import OPTIM_WRAPPERS

from .finite_optim_wrapper import FiniteOptimWrapper


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(FiniteOptimWrapper):
    """Runs the forward pass in bfloat16 under ``torch.autocast``, on CPUs and GPUs.

    MMEngine's ``AmpOptimWrapper`` does not support CPUs. It also scales the loss, which is not
    necessary in bfloat16, because bfloat16 has the range of float32. Weights, gradients and the
    losses of CrossCL are float32.

    Args:
        **kwargs: Arguments of :class:`FiniteOptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enable autocast within the block; gradients accumulate as in the base class."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
