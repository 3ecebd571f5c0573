"""Updates that are left out where a gradient is no number."""

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.nn.utils import get_total_norm

from mmcrosscl.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper``, without the updates that would ruin the weights.

    A loss that is infinite or not a number gives such gradients, on all ranks at once, since they
    are summed over them; so all leave out the same update, and none has to ask. A fused optimizer
    leaves it out on its device, as for torch's ``GradScaler``, and no GPU is waited for.

    Args:
        **kwargs: Those of :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._bad: Tensor | None = None

    @property
    def skipped(self) -> bool:
        """Whether the last update was left out; waits for a GPU that has not come that far."""
        return self._bad is not None and bool(self._bad)

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Propagate the loss back, or nan in its place if it is not finite."""
        super().backward(loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan), **kwargs)

    def step(self, **kwargs) -> None:
        """Update the weights if all gradients are finite."""
        groups = self.optimizer.param_groups
        gradients = [p.grad for group in groups for p in group['params'] if p.grad is not None]
        self._bad = ~get_total_norm(gradients).isfinite()
        # the first update makes the moments, which a fused one that is left out leaves unset
        if self.optimizer.state and all(group.get('fused') for group in groups):
            self.optimizer.found_inf = self._bad.float()
            super().step(**kwargs)
            del self.optimizer.found_inf
        elif not self._bad:
            super().step(**kwargs)
