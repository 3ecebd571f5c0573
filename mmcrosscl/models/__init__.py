"""The CrossCL model and its components."""

# checks the required packages before the modules below import them
import mmcrosscl.registry  # noqa: F401

from .crosscl import CrossCL
from .head import CrossCLHead
from .info_nce import InfoNCELoss, info_nce
from .key_encoder import KeyEncoder
from .necks import CrossCLNeck, DetectorNeck
from .preprocessor import ViewPreprocessor, change_views
from .queue import KeyQueue
from .regions import region_vectors

__all__ = [
    'CrossCL',
    'CrossCLHead',
    'CrossCLNeck',
    'DetectorNeck',
    'InfoNCELoss',
    'KeyEncoder',
    'KeyQueue',
    'ViewPreprocessor',
    'change_views',
    'info_nce',
    'region_vectors',
]
