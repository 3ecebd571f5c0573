"""Hooks of the training loop."""

from .multi_scale_hook import MultiScaleHook
from .pretrained_hook import PretrainedHook
from .skipped_images_hook import SkippedImagesHook
from .step_seed_hook import StepSeedHook, step_seed

__all__ = ['MultiScaleHook', 'PretrainedHook', 'SkippedImagesHook', 'StepSeedHook', 'step_seed']
