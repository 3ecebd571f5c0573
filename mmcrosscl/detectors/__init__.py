"""From the config of a detector to a config that pre-trains its backbone and its neck."""

# checks the required packages before the modules below import them
import mmcrosscl.registry  # noqa: F401

from .detector import (
    Detector,
    drop_weights,
    find_detector,
    initial_checkpoints,
    inner_detector,
    loads_weights,
)
from .dry_run import Features, dry_run
from .levels import TERMS, choose_levels, choose_terms
from .pretraining import Schedule, config_text, default_iterations
from .report import describe, report, used_levels
from .timing import seconds_per_iteration
from .view_size import choose_view_size

__all__ = [
    'TERMS',
    'Detector',
    'Features',
    'Schedule',
    'choose_levels',
    'choose_terms',
    'choose_view_size',
    'config_text',
    'default_iterations',
    'describe',
    'drop_weights',
    'dry_run',
    'find_detector',
    'initial_checkpoints',
    'inner_detector',
    'loads_weights',
    'report',
    'seconds_per_iteration',
    'used_levels',
]
