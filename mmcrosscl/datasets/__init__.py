"""Images without labels, their order, and the transforms that make two views of each."""

from .collate import collate_views
from .samplers import Place, SeededInfiniteSampler, SeededSampler
from .unlabelled import UnlabelledDataset

__all__ = [
    'Place',
    'SeededInfiniteSampler',
    'SeededSampler',
    'UnlabelledDataset',
    'collate_views',
]
