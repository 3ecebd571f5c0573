"""Optimizer wrapper that skips updates with NaN/Inf gradients."""

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmcrosscl.compat.total_norm import get_total_norm
from mmcrosscl.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(OptimWrapper):
    """An ``OptimWrapper`` of MMEngine that skips updates with a NaN/Inf loss or gradient.

    Such an update would set weights to NaN/Inf. Gradients are reduced over all ranks, so a NaN/Inf
    loss on one rank causes NaN gradients on all ranks. All ranks therefore skip the same update
    without additional communication. A fused optimizer skips the update on its device without a
    host-device synchronization, as it does for torch's ``GradScaler``.

    Attributes:
        gradient_norm (Tensor, optional): Norm of all gradients in the last update, a scalar on the
            device. None before the first update.

    Args:
        **kwargs: Arguments of :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._bad: Tensor | None = None
        self.gradient_norm: Tensor | None = None

    @property
    def skipped(self) -> bool:
        """Whether the last update was skipped. Waits until the GPU has computed the gradients."""
        return self._bad is not None and bool(self._bad)

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Backpropagate the loss, or NaN if the loss is NaN/Inf."""
        super().backward(loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan), **kwargs)

    def step(self, **kwargs) -> None:
        """Update the weights if all gradients are finite."""
        groups = self.optimizer.param_groups
        gradients = [p.grad for group in groups for p in group['params'] if p.grad is not None]
        self.gradient_norm = get_total_norm(gradients)
        self._bad = ~self.gradient_norm.isfinite()
        # The first update creates the optimizer's state. If a fused optimizer skipped this update,
        # the state would stay uninitialized.
        if self.optimizer.state and all(group.get('fused') for group in groups):
            # Fused optimizers of torch read `found_inf`, which GradScaler also sets.
            self.optimizer.found_inf = self._bad.float()
            super().step(**kwargs)
            del self.optimizer.found_inf
        elif not self._bad:
            super().step(**kwargs)
