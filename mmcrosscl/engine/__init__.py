"""What happens around the training iterations."""

from .launch import build_runner
from .multi_scale_hook import MultiScaleHook
from .skipped_images_hook import SkippedImagesHook

__all__ = ['MultiScaleHook', 'SkippedImagesHook', 'build_runner']
