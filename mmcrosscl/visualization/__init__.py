"""Figures of training runs and their results."""

from .detections import plot_detections
from .loss_curves import plot_loss_curves
from .scalars import Scalars, read_scalars

__all__ = ['Scalars', 'plot_detections', 'plot_loss_curves', 'read_scalars']
