"""Transforms that turn an image into two views and their region pairs."""

from .boxes import BoxPairs
from .loading import LoadImage, decode_image
from .packing import PackViews
from .photometric import RandomColorJitter, RandomGaussianBlur, RandomGrayscale, change_view
from .regions import RegionPairs, map_boxes, windows
from .views import TwoCrops, resized_crop

__all__ = [
    'BoxPairs',
    'LoadImage',
    'PackViews',
    'RandomColorJitter',
    'RandomGaussianBlur',
    'RandomGrayscale',
    'RegionPairs',
    'TwoCrops',
    'change_view',
    'decode_image',
    'map_boxes',
    'resized_crop',
    'windows',
]
