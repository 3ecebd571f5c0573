"""From an image to two views and their regions, each step one transform."""

from .loading import LoadImage, decode_image
from .photometric import RandomColorJitter, RandomGaussianBlur, RandomGrey
from .regions import RegionPairs, map_boxes
from .views import TwoCrops, resized_crop

__all__ = [
    'LoadImage',
    'RandomColorJitter',
    'RandomGaussianBlur',
    'RandomGrey',
    'RegionPairs',
    'TwoCrops',
    'decode_image',
    'map_boxes',
    'resized_crop',
]
