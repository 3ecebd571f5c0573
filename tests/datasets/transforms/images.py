"""Images for tests of transforms."""

from pathlib import Path

import numpy as np
import skimage
from PIL import Image

PHOTOS = ['coffee.png', 'astronaut.png', 'chelsea.png', 'hubble_deep_field.jpg']
PHOTO_FOLDER = Path(skimage.__file__).parent / 'data'


def photo(name: str = 'coffee.png') -> np.ndarray:
    """Return a photograph as (H, W, 3) uint8 RGB."""
    return np.array(Image.open(PHOTO_FOLDER / name).convert('RGB'))


def error(image: np.ndarray, expected) -> float:
    """Return the mean absolute difference of two images with levels from 0 to 255."""
    return np.abs(np.asarray(image, float) - np.asarray(expected, float)).mean()
