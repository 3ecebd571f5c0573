"""Evaluation of pre-trained features."""

# checks the requirements before the modules below import them
import mmcrosscl.registry  # noqa: F401

from .knn import KNNClassifier

__all__ = ['KNNClassifier']
