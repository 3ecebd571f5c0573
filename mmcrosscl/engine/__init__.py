"""What happens around the training iterations."""

from .bfloat16_optim_wrapper import BFloat16OptimWrapper
from .finite_optim_wrapper import FiniteOptimWrapper
from .launch import add_config_arguments, build_runner, read_config
from .multi_scale_hook import MultiScaleHook
from .non_finite_hook import NonFiniteHook
from .preemption_hook import PREEMPTED, PreemptionHook
from .pretrained_hook import PretrainedHook
from .replay import replay
from .resumable_epoch_loop import ResumableEpochLoop
from .resumable_runner import ResumableRunner
from .safe_checkpoint_hook import SafeCheckpointHook
from .skipped_images_hook import SkippedImagesHook
from .step_seed_hook import StepSeedHook
from .watched_loader import WatchedLoader

__all__ = [
    'PREEMPTED',
    'BFloat16OptimWrapper',
    'FiniteOptimWrapper',
    'MultiScaleHook',
    'NonFiniteHook',
    'PreemptionHook',
    'PretrainedHook',
    'ResumableEpochLoop',
    'ResumableRunner',
    'SafeCheckpointHook',
    'SkippedImagesHook',
    'StepSeedHook',
    'WatchedLoader',
    'add_config_arguments',
    'build_runner',
    'read_config',
    'replay',
]
