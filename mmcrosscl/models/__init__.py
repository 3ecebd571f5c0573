"""What is trained: the algorithm and its parts."""

from .crosscl import CrossCL
from .head import CrossCLHead
from .info_nce import InfoNCELoss, info_nce, plain_info_nce
from .key_encoder import KeyEncoder
from .neck import CrossCLNeck
from .preprocessor import ViewPreprocessor, change_views
from .queue import KeyQueue
from .regions import RegionPooling

__all__ = [
    'CrossCL',
    'CrossCLHead',
    'CrossCLNeck',
    'InfoNCELoss',
    'KeyEncoder',
    'KeyQueue',
    'RegionPooling',
    'ViewPreprocessor',
    'change_views',
    'info_nce',
    'plain_info_nce',
]
