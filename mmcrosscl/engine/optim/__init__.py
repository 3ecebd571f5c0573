"""Optimizer wrappers, and the detection and replay of NaN/Inf steps."""

from .bfloat16_optim_wrapper import BFloat16OptimWrapper
from .finite_optim_wrapper import FiniteOptimWrapper
from .non_finite_hook import NonFiniteHook
from .replay import replay

__all__ = ['BFloat16OptimWrapper', 'FiniteOptimWrapper', 'NonFiniteHook', 'replay']
