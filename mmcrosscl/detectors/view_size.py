"""The size of the views, from the sizes of the images."""

from contextlib import suppress
from statistics import median

import numpy as np
from PIL import Image

from mmcrosscl.datasets import UnlabeledDataset, open_image

# side of the published views, and its ratio to the shorter side of a typical image of ImageNet
VIEW_SIZE, RATIO = 224, 0.6
SMALLEST = 96
# the coarsest stage of most backbones has this stride
MULTIPLE = 32
# number of images whose size is read
SAMPLE = 200


def choose_view_size(dataset: UnlabeledDataset) -> int:
    """Return the side of the views in pixels: 224 as published, or less for small images.

    A crop of a small image that is enlarged to 224 pixels takes more time and has no more detail.
    The ratio of the views to the shorter side of the images is at most that of the published
    recipe, 224 to about 375 pixels. The result is a multiple of 32 pixels, and at least 96.

    Args:
        dataset (UnlabeledDataset): The images. The sizes of at most 200 files are read; those that
            cannot be read are ignored.
    """
    sides = []
    for index in np.linspace(0, len(dataset) - 1, min(SAMPLE, len(dataset))).astype(int):
        # Pillow raises errors of many types for unreadable files, which the training reports
        with suppress(Exception):
            with open_image(dataset.get_data_info(index)) as file, Image.open(file) as image:
                sides.append(min(image.size))
    if not sides:
        return VIEW_SIZE
    return min(VIEW_SIZE, max(SMALLEST, MULTIPLE * int(RATIO * median(sides) / MULTIPLE)))
