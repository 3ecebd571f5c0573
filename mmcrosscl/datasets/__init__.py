"""Images without labels, and the transforms that make two views of each."""

from .collate import collate_views
from .unlabelled import UnlabelledDataset

__all__ = ['UnlabelledDataset', 'collate_views']
