"""What shows whether it works."""

from .loss_curves import plot_loss_curves, read_scalars

__all__ = ['plot_loss_curves', 'read_scalars']
