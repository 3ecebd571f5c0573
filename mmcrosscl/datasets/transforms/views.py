"""Cropping of two views from an image."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from torch import Tensor
from torch.nn.functional import interpolate

from mmcrosscl.errors import InputError
from mmcrosscl.registry import TRANSFORMS
from mmcrosscl.structures import SeededIndex


@TRANSFORMS.register_module()
class TwoCrops(BaseTransform):
    """Create the query view and the key view of an image by two independent random resized crops.

    Area and aspect ratio have the distribution of torchvision's ``RandomResizedCrop``, which uses a
    center crop after ten failed attempts. The image is flipped at random before the crops, so both
    views are flipped or neither view is.

    **Required Keys:**

    - img (np.ndarray): (H, W, 3) uint8.

    **Modified Keys:**

    - img (list[np.ndarray]): Query view and key view, each (S, S, 3) uint8.
    - img_shape (tuple): (S, S).

    **Added Keys:**

    - flip (bool): Whether the image was flipped from left to right.
    - crops (np.ndarray): (2, 4) float64; left, top, width, height in pixels of the image after the
      flip.
    - loaded_shape (tuple): (H, W) of the image.

    Attributes:
        scale_at (Callable[[SeededIndex], int], optional): Function that returns S for a
            ``sample_idx`` and replaces ``scale``. :class:`~mmcrosscl.engine.MultiScaleHook` sets
            this attribute.

    Args:
        scale (int): S, the side of both views in pixels. Defaults to 224.
        crop_ratio_range (tuple[float, float]): Range of the area of a crop divided by the area of
            the image. Defaults to (0.2, 1).
        aspect_ratio_range (tuple[float, float]): Range of the width of a crop divided by its
            height. Defaults to (3/4, 4/3).
        flip_prob (float): Probability of the flip. Defaults to 0.5.

    Raises:
        InputError: If ``scale`` is below 1, a range is empty or not positive, or ``flip_prob`` is
            not within 0 to 1.
    """

    def __init__(
        self,
        scale: int = 224,
        crop_ratio_range: tuple[float, float] = (0.2, 1.0),
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
    ) -> None:
        if scale < 1:
            raise InputError(f'scale is {scale}; set a value of at least 1')
        for name, (low, high) in dict(
            crop_ratio_range=crop_ratio_range, aspect_ratio_range=aspect_ratio_range
        ).items():
            if not 0 < low <= high:
                raise InputError(f'{name} is {(low, high)}; set a range with 0 < low <= high')
        if not 0 <= flip_prob <= 1:
            raise InputError(f'flip_prob is {flip_prob}; set a value from 0 to 1')
        self.scale = scale
        self.scale_at: Callable[[SeededIndex], int] | None = None
        self.crop_ratio_range = tuple(crop_ratio_range)
        self.aspect_ratio_range = tuple(aspect_ratio_range)
        self.flip_prob = flip_prob

    def transform(self, results: dict) -> dict:
        # mmcv's flip returns negative strides, which torch does not support
        img = np.ascontiguousarray(results['img'])
        scale = self.scale_at(results['sample_idx']) if self.scale_at else self.scale
        flip = bool(np.random.rand() < self.flip_prob)
        crops, views = [], []
        for _ in range(2):
            left, top, width, height = self.random_crop(*img.shape[:2])
            crops.append((left, top, width, height))
            # flipping the view is cheaper than flipping the image
            if flip:
                left = img.shape[1] - left - width
            view = resized_crop(img, (left, top, width, height), scale)
            views.append(cv2.flip(view, 1) if flip else view)
        results['img'] = views
        results['img_shape'] = (scale, scale)
        results['loaded_shape'] = img.shape[:2]
        results['flip'] = flip
        results['crops'] = np.array(crops, dtype=np.float64)
        return results

    def random_crop(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return left, top, width and height of a random crop of an (H, W) image, in pixels."""
        # torchvision's algorithm with NumPy's generator; torch's takes 10 % of the time per image
        smallest, largest = self.crop_ratio_range
        low, high = (math.log(aspect) for aspect in self.aspect_ratio_range)
        for _ in range(10):
            area = height * width * np.random.uniform(smallest, largest)
            aspect = math.exp(np.random.uniform(low, high))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return np.random.randint(width - w + 1), np.random.randint(height - h + 1), w, h
        # the largest center crop whose aspect ratio is within the range
        aspect = min(max(width / height, self.aspect_ratio_range[0]), self.aspect_ratio_range[1])
        w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
        return (width - w) // 2, (height - h) // 2, w, h

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale={self.scale}, crop_ratio_range={self.crop_ratio_range}, '
            f'aspect_ratio_range={self.aspect_ratio_range}, flip_prob={self.flip_prob})'
        )


def resized_crop(img: np.ndarray, crop: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Crop an image and resize the crop by bilinear interpolation with antialiasing.

    Args:
        img (np.ndarray): (H, W, C) uint8.
        crop (tuple): Left, top, width and height in pixels of the image.
        size (int): Side of the result.

    Returns:
        np.ndarray: (size, size, C) uint8. It equals the result of Pillow's bilinear resize up to
        rounding.
    """
    left, top, width, height = crop
    # channels-last strides; torch resizes contiguous tensors slowly, one channel after the other
    cut = torch.from_numpy(img)[None, top : top + height, left : left + width].permute(0, 3, 1, 2)
    view: Tensor = interpolate(cut, size=(size, size), mode='bilinear', antialias=True)
    return view[0].permute(1, 2, 0).numpy()
