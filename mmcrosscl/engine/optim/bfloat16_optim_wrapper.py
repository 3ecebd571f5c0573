"""Mixed precision in bfloat16, on any device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mmcrosscl.registry import OPTIM_WRAPPERS

from .finite_optim_wrapper import FiniteOptimWrapper


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(FiniteOptimWrapper):
    """Runs the forward pass under ``torch.autocast`` in bfloat16.

    MMEngine's ``AmpOptimWrapper`` refuses CPUs. It also scales the loss, which bfloat16 does not
    need, since it has the range of float32. Weights, gradients and CrossCL's losses are float32.

    Args:
        **kwargs: Those of :class:`FiniteOptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast within; gradients accumulate as in the base class."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
