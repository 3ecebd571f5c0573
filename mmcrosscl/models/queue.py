"""The ring of past keys that serve as negatives of the global term."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcrosscl.errors import InputError


class KeyQueue(nn.Module):
    """The last ``length`` keys, newest overwriting oldest.

    The rows start as random unit vectors, as in He et al., 2020
    (https://arxiv.org/abs/1911.05722). Any batch size goes with any length.

    Args:
        dim (int): Length of a key.
        length (int): How many keys are kept.

    Raises:
        InputError: If either is not positive.
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        if dim < 1 or length < 1:
            raise InputError(f'a queue of {length} keys of {dim} numbers; both must be at least 1')
        self.register_buffer('keys', F.normalize(torch.randn(length, dim), dim=1))
        self.register_buffer('pointer', torch.zeros((), dtype=torch.long))

    def forward(self) -> Tensor:
        """The kept keys, (length, dim), in a copy that a later `enqueue` leaves as it is."""
        return self.keys.clone()

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Take in (N, dim) keys, those of all ranks in rank order.

        A key that is not finite is left out, and the one in its place stays: it would otherwise
        make the losses of thousands of steps infinite.
        """
        length = len(self.keys)
        # a batch longer than the ring would write some rows twice, in no defined order
        skipped = max(len(keys) - length, 0)
        rows = torch.arange(skipped, len(keys), device=keys.device) + self.pointer
        rows, new = rows % length, keys[skipped:].to(self.keys.dtype)
        self.keys[rows] = torch.where(new.isfinite().all(1, keepdim=True), new, self.keys[rows])
        self.pointer.add_(len(keys)).remainder_(length)
