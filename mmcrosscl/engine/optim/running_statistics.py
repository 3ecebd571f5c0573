"""Running statistics of normalization layers, which a skipped update must not change."""

import torch
from torch import Tensor, nn


class RunningStatistics:
    """Keeps the running statistics of a model's normalization layers, and restores them.

    Args:
        model (nn.Module): Model with normalization layers of any class.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [
            module for module in model.modules()
            if isinstance(getattr(module, 'running_mean', None), Tensor)
        ]  # fmt: skip
        self.keep()

    @torch.no_grad()
    def keep(self) -> None:
        """Copy the statistics, for :meth:`restore`."""
        self._kept = self._flat(self._groups())

    @torch.no_grad()
    def restore(self, chosen: bool | Tensor) -> None:
        """Set the statistics to the last copy if ``chosen`` is true.

        Args:
            chosen (bool | Tensor): Whether the statistics are restored. The host does not wait for
                a scalar on the device.
        """
        if chosen is False:
            return
        kept, groups = self._kept, self._groups()
        if isinstance(chosen, Tensor):
            pairs = zip(kept, self._flat(groups))
            kept = [torch.where(chosen.to(old.device), old, new) for old, new in pairs]
        for buffers, flat in zip(groups, kept):
            parts = flat.split([buffer.numel() for buffer in buffers])
            torch._foreach_copy_(buffers, [x.view_as(y) for x, y in zip(parts, buffers)])

    def _groups(self) -> list[list[Tensor]]:
        # PreciseBNHook replaces the tensors
        groups: dict[tuple, list[Tensor]] = {}
        for layer in self._layers:
            for buffer in layer.buffers(recurse=False):
                groups.setdefault((buffer.device, buffer.dtype), []).append(buffer)
        return list(groups.values())

    @staticmethod
    def _flat(groups: list[list[Tensor]]) -> list[Tensor]:
        # one tensor per device and type, because a kernel per statistic would take milliseconds
        return [torch.cat([buffer.flatten() for buffer in group]) for group in groups]
