"""Mixed precision in bfloat16, on any device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mmcrosscl.registry import OPTIM_WRAPPERS

from .finite_optim_wrapper import FiniteOptimWrapper


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(FiniteOptimWrapper):
    """Run the forward pass in bfloat16 where that is safe, as ``torch.autocast`` does.

    MMEngine's ``AmpOptimWrapper`` refuses CPUs and scales the loss, which bfloat16, with the range
    of float32, does not need. Weights, gradients and CrossCL's losses stay in float32.

    Args:
        **kwargs: Those of :class:`FiniteOptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast within; gradients accumulate as in the base class."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
