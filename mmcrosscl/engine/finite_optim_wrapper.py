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
    are summed over them; so all leave out the same update, and none has to ask.

    Attributes:
        skipped (bool): Whether the last update was left out.

    Args:
        **kwargs: Those of :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.skipped = False

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Propagate the loss back, or nan in its place if it is not finite."""
        super().backward(loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan), **kwargs)

    def step(self, **kwargs) -> None:
        """Update the weights if all gradients are finite."""
        groups = self.optimizer.param_groups
        gradients = [p.grad for group in groups for p in group['params'] if p.grad is not None]
        self.skipped = not bool(get_total_norm(gradients).isfinite())
        if not self.skipped:
            super().step(**kwargs)
