"""What shows whether it works."""

from .detections import plot_detections
from .loss_curves import plot_loss_curves, read_scalars

__all__ = ['plot_detections', 'plot_loss_curves', 'read_scalars']
