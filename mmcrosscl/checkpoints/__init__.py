"""Read, write, identify and convert checkpoints of mmcrosscl and of other projects."""

from .convert import TARGETS, Conversion, convert, convert_file
from .identify import Source, identify
from .reading import read_checkpoint, verify_checksums
from .transfer import convert_for_model
from .writing import atomic_write, write_checkpoint

__all__ = [
    'TARGETS',
    'Conversion',
    'Source',
    'atomic_write',
    'convert',
    'convert_file',
    'convert_for_model',
    'identify',
    'read_checkpoint',
    'verify_checksums',
    'write_checkpoint',
]
