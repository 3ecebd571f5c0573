"""Evaluation of pre-trained features."""

# imported first, because it checks the requirements that the modules below import
import mmcrosscl.registry  # noqa: F401

from .comparison import Comparison, compare_checkpoints
from .encoder import Encoder, load_encoder, untrained_encoder
from .knn import KNNClassifier
from .metric import CrossStageSimilarity
from .probe import Probe, probe_checkpoints
from .table import comparison_table

__all__ = [
    'Comparison',
    'CrossStageSimilarity',
    'Encoder',
    'KNNClassifier',
    'Probe',
    'compare_checkpoints',
    'comparison_table',
    'load_encoder',
    'probe_checkpoints',
    'untrained_encoder',
]
