"""Optimizer wrapper that skips updates with NaN/Inf gradients."""

from collections.abc import Callable
from functools import partial

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
    host-device synchronization, as it does for torch's ``GradScaler``. With other optimizers, the
    host waits in each update until the GPU has computed the gradients.

    Attributes:
        gradient_norm (Tensor, optional): Norm of all gradients in the last update, a scalar on the
            device. None before the first update.
        skipped (Tensor, optional): Whether the last update was skipped, a boolean scalar on the
            device. None before the first update.

    Args:
        **kwargs: Arguments of :class:`mmengine.optim.OptimWrapper`.
    """

    # MMEngine sets this attribute without a type
    clip_func: Callable[..., Tensor | None]

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.gradient_norm: Tensor | None = None
        self.skipped: Tensor | None = None
        if self.clip_grad_kwargs:
            self.clip_func = partial(self._clip, self.clip_func)

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Backpropagate the loss, or NaN if the loss is NaN/Inf."""
        super().backward(loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan), **kwargs)

    def step(self, **kwargs) -> None:
        """Update the weights if all gradients are finite."""
        groups = self.optimizer.param_groups
        gradients = [p.grad for group in groups for p in group['params'] if p.grad is not None]
        self.gradient_norm = get_total_norm(gradients)
        self.skipped = ~self.gradient_norm.isfinite()
        # The first update creates the optimizer's state. If a fused optimizer skipped this update,
        # the state would stay uninitialized.
        if self.optimizer.state and all(group.get('fused') for group in groups):
            # Fused optimizers of torch read `found_inf`, which GradScaler also sets.
            self.optimizer.found_inf = self.skipped.float()
            super().step(**kwargs)
            del self.optimizer.found_inf
        elif not self.skipped:
            super().step(**kwargs)

    def _clip(self, clip: Callable[..., Tensor | None], *args, **kwargs) -> None:
        # MMEngine would convert the result to a number and therefore wait for the GPU.
        norm = clip(*args, **kwargs)
        if norm is not None:
            self.message_hub.update_scalar(f'train/{self.grad_name}', norm)
