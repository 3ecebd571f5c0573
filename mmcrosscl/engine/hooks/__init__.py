"""Hooks of the training loop."""

from .multi_scale_hook import MultiScaleHook
from .pretrained_hook import PretrainedHook
from .similarity_map_hook import SimilarityMapHook
from .skipped_images_hook import SkippedImagesHook
from .step_seed_hook import StepSeedHook, step_seed

__all__ = [
    'MultiScaleHook',
    'PretrainedHook',
    'SimilarityMapHook',
    'SkippedImagesHook',
    'StepSeedHook',
    'step_seed',
]
