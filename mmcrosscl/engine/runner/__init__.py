"""Training loops, checkpoints, resume and preemption."""

from .checkpoint_hook import SafeCheckpointHook
from .defaults import DEFAULT_HOOKS
from .loops import ResumableEpochLoop, ResumableIterLoop
from .preemption_hook import PreemptionHook
from .resumable_runner import ResumableRunner
from .resume_hook import ResumeHook

__all__ = [
    'DEFAULT_HOOKS',
    'PreemptionHook',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'ResumableRunner',
    'ResumeHook',
    'SafeCheckpointHook',
]
