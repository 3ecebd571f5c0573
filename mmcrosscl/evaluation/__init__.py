"""Evaluation of pre-trained features."""

# imported first, because it checks the requirements that the modules below import
import mmcrosscl.registry  # noqa: F401

from .knn import KNNClassifier

__all__ = ['KNNClassifier']
