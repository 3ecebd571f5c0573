"""Images without labels, and the transforms that make two views of each."""

from .unlabelled import UnlabelledDataset

__all__ = ['UnlabelledDataset']
