"""Training: the runner, optimizer wrappers and hooks, and from a config to a runner."""

# checks the requirements before the modules below import them
import mmcrosscl.registry  # noqa: F401

from .config import build_runner, load_config, set_test_checkpoint
from .hooks import MultiScaleHook, PretrainedHook, SkippedImagesHook, StepSeedHook
from .optim import BFloat16OptimWrapper, FiniteOptimWrapper, NonFiniteHook, replay
from .options import merge_options
from .runner import (
    DEFAULT_HOOKS,
    PreemptionHook,
    ResumableEpochLoop,
    ResumableIterLoop,
    ResumableRunner,
    ResumeHook,
    SafeCheckpointHook,
)

__all__ = [
    'DEFAULT_HOOKS',
    'BFloat16OptimWrapper',
    'FiniteOptimWrapper',
    'MultiScaleHook',
    'NonFiniteHook',
    'PreemptionHook',
    'PretrainedHook',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'ResumableRunner',
    'ResumeHook',
    'SafeCheckpointHook',
    'SkippedImagesHook',
    'StepSeedHook',
    'build_runner',
    'load_config',
    'merge_options',
    'replay',
    'set_test_checkpoint',
]
