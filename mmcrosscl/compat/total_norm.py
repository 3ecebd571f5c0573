"""The total norm of gradients, a function of torch since 2.6."""

import torch
from torch import Tensor

try:
    from torch.nn.utils import get_total_norm
except ImportError:
    # without the arguments of torch's function that this package does not use
    def get_total_norm(tensors: list[Tensor]) -> Tensor:  # type: ignore[misc]
        """Return the 2-norm of all values of the tensors, a scalar on their device.

        Args:
            tensors (list[Tensor]): Tensors of any shapes on one device.
        """
        if not tensors:
            return torch.tensor(0.0)
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


__all__ = ['get_total_norm']
