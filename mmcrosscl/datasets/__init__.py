"""Unlabeled datasets, samplers and batch collation."""

# this import checks the requirements before the modules below import them
import mmcrosscl.registry  # noqa: F401
from mmcrosscl.structures import SeededIndex

from .collate import collate_views
from .label_subsets import label_subsets, write_label_subsets
from .leaks import check_leaks
from .objects import (
    ObjectDataset,
    category_names,
    find_images,
    read_coco,
    select_images,
    write_coco,
)
from .samplers import SeededInfiniteSampler, SeededSampler
from .shards import write_shards
from .storage import absolute, image_size, open_image
from .unlabeled import ImageDataset, UnlabeledDataset

__all__ = [
    'ImageDataset',
    'ObjectDataset',
    'SeededIndex',
    'SeededInfiniteSampler',
    'SeededSampler',
    'UnlabeledDataset',
    'absolute',
    'category_names',
    'check_leaks',
    'collate_views',
    'find_images',
    'image_size',
    'label_subsets',
    'open_image',
    'read_coco',
    'select_images',
    'write_coco',
    'write_label_subsets',
    'write_shards',
]
