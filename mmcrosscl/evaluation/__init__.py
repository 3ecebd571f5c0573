"""What shows whether pre-training works."""

from .knn import KNNClassifier

__all__ = ['KNNClassifier']
