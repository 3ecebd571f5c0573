"""Skips updates with NaN/Inf gradients."""

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.nn.utils import get_total_norm

from mmcrosscl.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper``, which skips updates that would set weights to NaN/Inf.

    A NaN/Inf loss gives NaN gradients on all ranks at once, since gradients are summed over them.
    All ranks therefore skip the same update without communication. A fused optimizer skips it on
    its device, as it does for torch's ``GradScaler``, without a host-device sync.

    Args:
        **kwargs: Those of :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._bad: Tensor | None = None

    @property
    def skipped(self) -> bool:
        """Whether the last update was skipped; waits for a GPU that has not come that far."""
        return self._bad is not None and bool(self._bad)

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Backpropagate the loss; NaN in its place if it is NaN/Inf."""
        super().backward(loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan), **kwargs)

    def step(self, **kwargs) -> None:
        """Update the weights if all gradients are finite."""
        groups = self.optimizer.param_groups
        gradients = [p.grad for group in groups for p in group['params'] if p.grad is not None]
        self._bad = ~get_total_norm(gradients).isfinite()
        # The first update makes the moments; a fused one that is skipped leaves them unset.
        if self.optimizer.state and all(group.get('fused') for group in groups):
            # torch's fused optimizers read this attribute, which GradScaler sets.
            self.optimizer.found_inf = self._bad.float()
            super().step(**kwargs)
            del self.optimizer.found_inf
        elif not self._bad:
            super().step(**kwargs)
