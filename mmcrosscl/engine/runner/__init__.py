"""Runner and training loops, with checkpoints, resuming and preemption."""

from .checkpoint_hook import SafeCheckpointHook
from .defaults import DEFAULT_HOOKS
from .deferred_message_hub import DeferredMessageHub
from .loops import ResumableEpochLoop, ResumableIterLoop
from .preemption_hook import PreemptionHook
from .progress_hook import ProgressHook
from .resumable_runner import ResumableRunner
from .resume_hook import ResumeHook
from .scalar_history_hook import ScalarHistoryHook
from .training_log_hook import TrainingLogHook

__all__ = [
    'DEFAULT_HOOKS',
    'DeferredMessageHub',
    'PreemptionHook',
    'ProgressHook',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'ResumableRunner',
    'ResumeHook',
    'SafeCheckpointHook',
    'ScalarHistoryHook',
    'TrainingLogHook',
]
