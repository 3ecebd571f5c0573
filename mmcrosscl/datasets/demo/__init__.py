"""Datasets generated from the photographs of scikit-image and of two Debian packages."""

from .cutouts import missing_packages
from .objects import write_demo_objects
from .photos import open_demo_photo, write_demo_photos
from .scenes import write_scenes

__all__ = [
    'missing_packages',
    'open_demo_photo',
    'write_demo_objects',
    'write_demo_photos',
    'write_scenes',
]
