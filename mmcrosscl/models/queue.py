"""The queue of past keys, which are the negatives of the global term."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS


@MODELS.register_module()
class KeyQueue(nn.Module):
    """Queue of the last ``length`` keys. New keys replace the oldest keys.

    The rows are initialized with random unit vectors, as in He et al., 2020
    (https://arxiv.org/abs/1911.05722). The length does not have to be a multiple of the batch size.

    Args:
        dim (int): Length of a key.
        length (int): Number of keys.

    Raises:
        InputError: If ``dim`` or ``length`` is less than 1.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        if dim < 1 or length < 1:
            raise InputError(f'the queue has length {length} and dim {dim}; set both to at least 1')
        self.register_buffer('keys', F.normalize(torch.randn(length, dim), dim=1))
        self.register_buffer('pointer', torch.zeros((), dtype=torch.long))

    def forward(self) -> Tensor:
        """Return a copy of the keys, (length, dim); a later :meth:`enqueue` does not change it."""
        return self.keys.clone()

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Add the keys of all ranks, in rank order.

        A key with NaN/Inf is skipped, and its row keeps the old key. Otherwise, the losses of
        thousands of steps would be NaN/Inf.

        Args:
            keys (Tensor): (N, dim).
        """
        length = len(self.keys)
        # a batch longer than the queue would write some rows twice, in an undefined order
        skipped = max(len(keys) - length, 0)
        rows = torch.arange(skipped, len(keys), device=keys.device) + self.pointer
        rows, new = rows % length, keys[skipped:].to(self.keys.dtype)
        self.keys[rows] = torch.where(new.isfinite().all(1, keepdim=True), new, self.keys[rows])
        self.pointer.add_(len(keys)).remainder_(length)
