"""Necks, which compute the global vector and the pyramid levels from backbone stages."""

from .crosscl import CrossCLNeck
from .detector import DetectorNeck

__all__ = ['CrossCLNeck', 'DetectorNeck']
