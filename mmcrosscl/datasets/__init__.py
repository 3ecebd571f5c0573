"""Images without labels, their order, and the transforms that make two views of each."""

from .collate import collate_views
from .samplers import SeededIndex, SeededInfiniteSampler, SeededSampler
from .unlabeled import UnlabeledDataset

__all__ = [
    'SeededIndex',
    'SeededInfiniteSampler',
    'SeededSampler',
    'UnlabeledDataset',
    'collate_views',
]
