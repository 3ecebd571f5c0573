"""Reading, writing and converting checkpoints of ours and of other projects."""

from .convert import TARGETS, Conversion, convert
from .files import check_whole, read_checkpoint, write_checkpoint, write_whole
from .model import convert_for
from .sources import Source, recognise

__all__ = [
    'TARGETS',
    'Conversion',
    'Source',
    'check_whole',
    'convert',
    'convert_for',
    'read_checkpoint',
    'recognise',
    'write_checkpoint',
    'write_whole',
]
