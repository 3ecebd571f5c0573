"""Small datasets generated from the photographs of scikit-image."""

from .objects import write_demo_objects
from .photos import open_demo_photo, write_demo_photos

__all__ = ['open_demo_photo', 'write_demo_objects', 'write_demo_photos']
