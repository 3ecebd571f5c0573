"""Training: loading of configs, the runner, hooks and optimizer wrappers."""

# checks that the required packages are installed before the modules below import them
import mmcrosscl.registry  # noqa: F401

from .config import (
    build_runner,
    check_training,
    load_config,
    merge_changes,
    read_config,
    set_test_checkpoint,
)
from .hooks import (
    MultiScaleHook,
    PretrainedHook,
    SimilarityMapHook,
    SkippedImagesHook,
    StepSeedHook,
)
from .optim import BFloat16OptimWrapper, FiniteOptimWrapper, NonFiniteHook, replay
from .options import merge_options
from .runner import (
    DEFAULT_HOOKS,
    DeferredMessageHub,
    PreemptionHook,
    ProgressHook,
    ResumableEpochLoop,
    ResumableIterLoop,
    ResumableRunner,
    ResumeHook,
    SafeCheckpointHook,
    ScalarHistoryHook,
    TrainingLogHook,
)

__all__ = [
    'DEFAULT_HOOKS',
    'BFloat16OptimWrapper',
    'DeferredMessageHub',
    'FiniteOptimWrapper',
    'MultiScaleHook',
    'NonFiniteHook',
    'PreemptionHook',
    'PretrainedHook',
    'ProgressHook',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'ResumableRunner',
    'ResumeHook',
    'SafeCheckpointHook',
    'ScalarHistoryHook',
    'SimilarityMapHook',
    'SkippedImagesHook',
    'StepSeedHook',
    'TrainingLogHook',
    'build_runner',
    'check_training',
    'load_config',
    'merge_changes',
    'merge_options',
    'read_config',
    'replay',
    'set_test_checkpoint',
]
