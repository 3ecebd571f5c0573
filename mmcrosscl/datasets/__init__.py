"""Unlabeled datasets, samplers and batch collation."""

# this import checks the requirements before the modules below import them
import mmcrosscl.registry  # noqa: F401
from mmcrosscl.structures import SeededIndex

from .collate import collate_views
from .samplers import SeededInfiniteSampler, SeededSampler
from .unlabeled import UnlabeledDataset

__all__ = [
    'SeededIndex',
    'SeededInfiniteSampler',
    'SeededSampler',
    'UnlabeledDataset',
    'collate_views',
]
