"""From one image to two views."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms import RandomResizedCrop

from mmcrosscl.errors import InputError
from mmcrosscl.registry import TRANSFORMS


@TRANSFORMS.register_module()
class TwoCrops(BaseTransform):
    """Cut the query view and the key view out of an image: two independent random resized crops.

    Area and aspect are drawn as torchvision's ``RandomResizedCrop`` draws them: ten tries, then a
    centre crop. Flip the image before, with mmcv's ``RandomFlip``: one flip then serves both views
    and the crops stay in one frame.

    **Required Keys:**

    - img (np.ndarray): (H, W, 3) uint8.

    **Modified Keys:**

    - img (list[np.ndarray]): Query view and key view, each (S, S, 3) uint8.
    - img_shape (tuple): (S, S).

    **Added Keys:**

    - crops (np.ndarray): (2, 4) float64; left, top, width, height in pixels of the image.

    Args:
        scale (int): S, side of both views in pixels. Defaults to 224.
        crop_ratio_range (tuple[float, float]): Area of a crop as a share of the image's.
            Defaults to (0.2, 1).
        aspect_ratio_range (tuple[float, float]): Width over height of a crop.
            Defaults to (3/4, 4/3).

    Raises:
        InputError: If S is below 1 or a range is empty or not positive.
    """

    def __init__(
        self,
        scale: int = 224,
        crop_ratio_range: tuple[float, float] = (0.2, 1.0),
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        if scale < 1:
            raise InputError(f'scale is {scale}; the side of a view must be at least 1 pixel')
        for name, (low, high) in dict(
            crop_ratio_range=crop_ratio_range, aspect_ratio_range=aspect_ratio_range
        ).items():
            if not 0 < low <= high:
                raise InputError(f'{name} is {(low, high)}; give 0 < low <= high')
        # in shared memory, where worker processes that live on see what `set_scale` writes
        self._scale = torch.tensor(scale).share_memory_()
        self.crop_ratio_range = tuple(crop_ratio_range)
        self.aspect_ratio_range = tuple(aspect_ratio_range)

    @property
    def scale(self) -> int:
        """S, side of both views in pixels."""
        return int(self._scale)

    def set_scale(self, scale: int) -> None:
        """Cut views of another side from now on, in running worker processes too."""
        self._scale.fill_(scale)

    def transform(self, results: dict) -> dict:
        img = results['img']
        scale = self.scale
        # get_params reads no more than the size, from the last two dimensions
        size = torch.empty(0, *img.shape[:2])
        crops = []
        for _ in range(2):
            top, left, height, width = RandomResizedCrop.get_params(
                size, self.crop_ratio_range, self.aspect_ratio_range
            )
            crops.append((left, top, width, height))
        results['img'] = [resized_crop(img, crop, scale) for crop in crops]
        results['img_shape'] = (scale, scale)
        results['crops'] = np.array(crops, dtype=np.float64)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale={self.scale}, crop_ratio_range={self.crop_ratio_range}, '
            f'aspect_ratio_range={self.aspect_ratio_range})'
        )


def resized_crop(img: np.ndarray, crop: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Cut (left, top, width, height) out of an image and resize it, bilinear and antialiased.

    Args:
        img (np.ndarray): (H, W, C) uint8.
        crop (tuple): In pixels of the image.
        size (int): Side of the result.

    Returns:
        np.ndarray: (size, size, C) uint8, what Pillow's bilinear resize gives to within rounding.
    """
    left, top, width, height = crop
    # mmcv's flip leaves a view of negative strides, which torch does not take
    cut = np.ascontiguousarray(img[top : top + height, left : left + width])
    view: Tensor = interpolate(
        torch.from_numpy(cut).permute(2, 0, 1)[None],
        size=(size, size),
        mode='bilinear',
        antialias=True,
    )
    return view[0].permute(1, 2, 0).contiguous().numpy()
