"""Two views with Pillow and torchvision, as in MoCo's and the authors' implementations."""

import random

import numpy as np
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional as F

from mmcrosscl.datasets.transforms import RegionPairs
from mmcrosscl.structures import ViewPairSample


class PillowViews:
    """Loads two views and their regions with torchvision's transforms of Pillow images.

    Args:
        size (int): Side of the views in pixels. Defaults to 224.
    """

    def __init__(self, size: int = 224) -> None:
        self.size = size
        self.regions = RegionPairs()
        jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
        self.photometric = transforms.Compose(
            [
                transforms.RandomApply([self.blur], p=0.5),
                transforms.RandomApply([jitter], p=0.8),
                transforms.RandomGrayscale(p=0.2),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __call__(self, path: str) -> tuple[list[Tensor], ViewPairSample]:
        """Return the query view and the key view, each (3, S, S) and normalized, and the sample."""
        with Image.open(path) as file:
            image = file.convert('RGB')
        if random.random() < 0.5:
            image = F.hflip(image)
        crops, views = [], []
        for _ in range(2):
            top, left, height, width = transforms.RandomResizedCrop.get_params(
                image, (0.2, 1.0), (3 / 4, 4 / 3)
            )
            view = F.resized_crop(image, top, left, height, width, [self.size] * 2)
            views.append(self.photometric(view))
            crops.append((left, top, width, height))
        results = dict(crops=np.array(crops, dtype=float), img_shape=(self.size, self.size))
        return views, ViewPairSample.from_results(self.regions.transform(results))

    @staticmethod
    def blur(image: Image.Image) -> Image.Image:
        """Blur with a random radius of 0.1 to 2 pixels."""
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
