"""What happens around the training iterations."""

from .bfloat16_optim_wrapper import BFloat16OptimWrapper
from .launch import add_config_arguments, build_runner, read_config
from .multi_scale_hook import MultiScaleHook
from .pretrained_hook import PretrainedHook
from .skipped_images_hook import SkippedImagesHook

__all__ = [
    'BFloat16OptimWrapper',
    'MultiScaleHook',
    'PretrainedHook',
    'SkippedImagesHook',
    'add_config_arguments',
    'build_runner',
    'read_config',
]
