"""Fused optimizers, which older releases of torch lack for some classes and devices."""

from collections.abc import Callable, Mapping
from functools import cache

import torch
from mmengine.logging import MMLogger
from mmengine.registry import OPTIMIZERS


def without_unsupported_fused(optim_wrapper: dict, device: torch.device) -> dict:
    """Return settings of an optimizer wrapper, without ``fused`` if torch does not support it.

    Args:
        optim_wrapper (dict): Settings with an ``optimizer``. They are not modified.
        device (torch.device): Device of the weights.
    """
    optimizer = optim_wrapper.get('optimizer')
    if not isinstance(optimizer, Mapping) or 'fused' not in optimizer:
        return optim_wrapper
    kind = optimizer['type']
    if supports_fused(OPTIMIZERS.get(kind) if isinstance(kind, str) else kind, device.type):
        return optim_wrapper
    if optimizer['fused']:
        MMLogger.get_current_instance().info(
            f'The optimizer is not fused, because torch {torch.__version__} has no fused {kind} '
            f'for the device type {device.type}.'
        )
    optimizer = {name: value for name, value in optimizer.items() if name != 'fused'}
    return type(optim_wrapper)({**optim_wrapper, 'optimizer': optimizer})


@cache
def supports_fused(optimizer: Callable[..., torch.optim.Optimizer], device: str) -> bool:
    """Return whether ``fused=True`` works for an optimizer on a type of device.

    Args:
        optimizer (type): Class of the optimizer.
        device (str): Type of the device, such as 'cpu'.
    """
    parameter = torch.zeros(1, device=device, requires_grad=True)
    parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer([parameter], lr=0.0, fused=True).step()
    except (TypeError, RuntimeError):
        return False
    return True
