"""Small labeled datasets with one image folder per class."""

from pathlib import Path

import numpy as np
from PIL import Image

COLORS = ((200, 60, 60), (60, 200, 60), (60, 60, 200))


def write_images(folder: Path, per_class: int, seed: int) -> None:
    """Write noisy images of three classes, one folder and one color per class.

    Args:
        folder (Path): Root of the class folders. They must not exist.
        per_class (int): Number of images per class.
        seed (int): Seed of the noise.
    """
    rng = np.random.default_rng(seed)
    for label, color in enumerate(COLORS):
        (folder / f'class{label}').mkdir(parents=True)
        for index in range(per_class):
            noise = rng.normal(0, 40, (40, 40, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f'class{label}/{index}.png')
