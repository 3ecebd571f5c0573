"""Read, write, identify and convert checkpoints of mmcrosscl and of other projects."""

from .conversion import Conversion
from .convert import TARGETS, convert, convert_file
from .efficientnet_lite import missing_weight_packages, write_efficientnet_lite0
from .identify import Source, identify
from .literals import UNKNOWN, read_literals, stored_config
from .normalization import InputFormat, preprocessor_input_format
from .preprocessing import model_input_format
from .reading import last_checkpoint, read_checkpoint, verify_checksums
from .transfer import convert_for_model, fitting_names
from .writing import atomic_write, write_checkpoint

__all__ = [
    'TARGETS',
    'UNKNOWN',
    'Conversion',
    'InputFormat',
    'Source',
    'atomic_write',
    'convert',
    'convert_file',
    'convert_for_model',
    'fitting_names',
    'identify',
    'last_checkpoint',
    'missing_weight_packages',
    'model_input_format',
    'preprocessor_input_format',
    'read_checkpoint',
    'read_literals',
    'stored_config',
    'verify_checksums',
    'write_checkpoint',
    'write_efficientnet_lite0',
]
