"""Message hub that reads training scalars from the device only when they are used."""

from collections import OrderedDict

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor

# Unread values of a scalar that are kept on the device at most. A tensor takes 512 bytes on a GPU.
MOST_UNREAD = 1000


class DeferredMessageHub(MessageHub):
    """A ``MessageHub`` of MMEngine that keeps scalars on the device until they are used.

    MMEngine's class reads each loss in each iteration, and each read waits for the GPU. This class
    reads all unread values at once when the log, a checkpoint or a hook accesses the histories of
    scalars. The histories then equal those of MMEngine's class. The first value of a scalar is read
    immediately, so the order of the scalars is also the same.

    Args:
        name (str): Name of the instance.
        **kwargs: Further arguments of ``MessageHub``.
    """

    def __init__(self, name: str, **kwargs) -> None:
        super().__init__(name, **kwargs)
        # for each scalar, the values in order, with the arguments count and resumed
        self._unread: dict[str, list[tuple[Tensor, int, bool]]] = {}

    @property
    def read_scalars(self) -> OrderedDict[str, HistoryBuffer]:
        """Histories of the scalars, without the values that are still unread."""
        return super().log_scalars

    @property
    def log_scalars(self) -> OrderedDict[str, HistoryBuffer]:
        """Histories of the scalars. Waits until the device has computed the unread values."""
        self._read()
        return super().log_scalars

    def get_scalar(self, key: str) -> HistoryBuffer:
        """Return the history of a scalar. Waits for the device if the scalar has unread values."""
        if key in self._unread or key not in self.read_scalars:
            return super().get_scalar(key)
        return self.read_scalars[key]

    def update_scalar(
        self,
        key: str,
        value: int | float | np.ndarray | Tensor,
        count: int = 1,
        resumed: bool = True,
    ) -> None:
        """Append a value to the history of a scalar. A tensor remains on its device until used."""
        if isinstance(value, Tensor) and value.numel() == 1 and key in self.read_scalars:
            unread = self._unread.setdefault(key, [])
            # a copy, because the value may be part of a graph or change in place
            unread.append((value.detach().reshape(()).clone(), count, resumed))
            if len(unread) == MOST_UNREAD:
                self._read()
            return
        if key in self._unread:
            self._read()
        super().update_scalar(key, value, count, resumed)

    def state_dict(self) -> dict:
        """Return the state for a checkpoint. Waits for the device if there are unread values."""
        self._read()
        return super().state_dict()

    def _read(self) -> None:
        unread = [(key, *entry) for key, entries in self._unread.items() for entry in entries]
        self._unread = {}
        # one transfer for all values of a type
        groups: dict[tuple, list[int]] = {}
        for row, (_, value, _, _) in enumerate(unread):
            groups.setdefault((value.device, value.dtype), []).append(row)
        numbers: dict[int, int | float] = {}
        for rows in groups.values():
            numbers.update(zip(rows, torch.stack([unread[row][1] for row in rows]).tolist()))
        for row, (key, _, count, resumed) in enumerate(unread):
            super().update_scalar(key, numbers[row], count, resumed)


# MMEngine has a registry of instances per class, in which MessageHub.get_current_instance() would
# not find this class.
DeferredMessageHub._instance_dict = MessageHub._instance_dict
