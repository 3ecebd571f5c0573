"""Figures of images, of training runs and of their results."""

from .detections import plot_detections
from .loss_curves import plot_loss_curves
from .scalars import Scalars, read_scalars
from .similarity_maps import plot_similarity_maps, principal_components, similarity_map
from .views import draw_views

__all__ = [
    'Scalars',
    'draw_views',
    'plot_detections',
    'plot_loss_curves',
    'plot_similarity_maps',
    'principal_components',
    'read_scalars',
    'similarity_map',
]
