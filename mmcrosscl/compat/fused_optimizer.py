"""Fused optimizers, which are not supported in some cases."""

from collections.abc import Callable, Mapping
from functools import cache

import torch
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS


def without_unsupported_fused(optim_wrapper: dict, device: torch.device) -> dict:
    """Return settings of an optimizer wrapper, without ``fused`` if it is not supported.

    Older releases of torch have no fused optimizer for some classes and devices. With loss scaling,
    a first update that overflows would leave the momentum of a fused optimizer uninitialized.

    Args:
        optim_wrapper (dict): Settings with an ``optimizer``. They are not modified.
        device (torch.device): Device of the weights.
    """
    optimizer = optim_wrapper.get('optimizer')
    if not isinstance(optimizer, Mapping) or 'fused' not in optimizer:
        return optim_wrapper
    kind = optimizer['type']
    if scales_loss(optim_wrapper):
        reason = 'an overflow in the first iteration would leave its momentum uninitialized'
    elif supports_fused(OPTIMIZERS.get(kind) if isinstance(kind, str) else kind, device.type):
        return optim_wrapper
    else:
        reason = f'torch {torch.__version__} has no fused {kind} for the device type {device.type}'
    if optimizer['fused']:
        MMLogger.get_current_instance().info(f'The optimizer is not fused, because {reason}.')
    optimizer = {name: value for name, value in optimizer.items() if name != 'fused'}
    return type(optim_wrapper)({**optim_wrapper, 'optimizer': optimizer})


def scales_loss(optim_wrapper: OptimWrapper | Mapping | None) -> bool:
    """Return whether an optimizer wrapper or its settings train in float16 with loss scaling."""
    kind = optim_wrapper.get('type') if isinstance(optim_wrapper, Mapping) else type(optim_wrapper)
    kind = OPTIM_WRAPPERS.get(kind) if isinstance(kind, str) else kind
    return isinstance(kind, type) and issubclass(kind, AmpOptimWrapper)


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
