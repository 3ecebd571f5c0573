"""Read, write, identify and convert checkpoints of mmcrosscl and of other projects."""

from .conversion import Conversion
from .convert import TARGETS, convert, convert_file
from .identify import Source, identify
from .normalization import InputFormat, preprocessor_input_format
from .preprocessing import model_input_format
from .reading import read_checkpoint, verify_checksums
from .transfer import convert_for_model
from .writing import atomic_write, write_checkpoint

__all__ = [
    'TARGETS',
    'Conversion',
    'InputFormat',
    'Source',
    'atomic_write',
    'convert',
    'convert_file',
    'convert_for_model',
    'identify',
    'model_input_format',
    'preprocessor_input_format',
    'read_checkpoint',
    'verify_checksums',
    'write_checkpoint',
]
