"""Images to try transforms on."""

from pathlib import Path

import numpy as np
import skimage
from PIL import Image

PHOTO_FOLDER = Path(skimage.__file__).parent / 'data'


def photo(name: str = 'coffee.png') -> np.ndarray:
    """A photograph as (H, W, 3) uint8 RGB."""
    return np.array(Image.open(PHOTO_FOLDER / name).convert('RGB'))


def error(ours: np.ndarray, theirs) -> float:
    """Mean absolute difference in grey levels."""
    return np.abs(np.asarray(ours, float) - np.asarray(theirs, float)).mean()
