"""Reading, writing and converting checkpoints of ours and of other projects."""

from .convert import TARGETS, Conversion, convert
from .files import atomic_write, read_checkpoint, verify_checksums, write_checkpoint
from .identify import Source, identify
from .transfer import convert_for_model

__all__ = [
    'TARGETS',
    'Conversion',
    'Source',
    'verify_checksums',
    'convert',
    'convert_for_model',
    'read_checkpoint',
    'identify',
    'write_checkpoint',
    'atomic_write',
]
