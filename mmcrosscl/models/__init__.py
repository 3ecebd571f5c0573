"""What is trained: the algorithm and its parts."""

from .crosscl import CrossCL
from .head import CrossCLHead
from .info_nce import InfoNCELoss, info_nce
from .key_encoder import KeyEncoder
from .neck import CrossCLNeck
from .queue import KeyQueue
from .region_pooling import RegionPooling

__all__ = [
    'CrossCL',
    'CrossCLHead',
    'CrossCLNeck',
    'InfoNCELoss',
    'KeyEncoder',
    'KeyQueue',
    'RegionPooling',
    'info_nce',
]
