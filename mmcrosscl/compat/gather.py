"""Gathering into one tensor, which gloo does not support in old releases of torch."""

from functools import cache

import torch
from torch import Tensor, distributed


def all_gather_into_tensor(output: Tensor, x: Tensor) -> distributed.Work:
    """Start :func:`torch.distributed.all_gather_into_tensor`, or gather a list of views instead.

    Args:
        output (Tensor): (W·N, ...), contiguous; the rows of all W processes after the wait.
        x (Tensor): (N, ...), contiguous, of the same shape in every process.

    Returns:
        Work: Handle to wait for.
    """
    if _is_supported(distributed.get_backend(), x.device.type):
        return distributed.all_gather_into_tensor(output, x, async_op=True)
    return distributed.all_gather(list(output.split(len(x))), x, async_op=True)


@cache
def _is_supported(backend: str, device: str) -> bool:
    x = torch.zeros(1, device=device)
    try:
        distributed.all_gather_into_tensor(x.new_empty(distributed.get_world_size()), x)
    # gloo refuses before it communicates, so all processes get the error
    except RuntimeError:
        return False
    return True
