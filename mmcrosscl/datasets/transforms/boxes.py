"""Labeled boxes as region pairs."""

import numpy as np
from mmcv.transforms import BaseTransform

from mmcrosscl.registry import TRANSFORMS

from .regions import map_boxes


@TRANSFORMS.register_module()
class BoxPairs(BaseTransform):
    """Map the labeled boxes of an image to both views, in place of ``RegionPairs``.

    A box that does not lie within both views is not paired.

    **Required Keys:**

    - boxes (np.ndarray): (R, 4); x0, y0, x1, y1 in pixels of the upright image at full size, as
      :class:`~mmcrosscl.datasets.ObjectDataset` returns them.
    - crops (np.ndarray): (2, 4); left, top, width, height of the query crop and of the key crop.
    - flip (bool): Whether the image was flipped before the crops.
    - img_shape (tuple): (S, S) of both views.
    - ori_shape (tuple): (H, W) of the image at full size.
    - loaded_shape (tuple): (H, W) of the image that was cropped.

    **Added Keys:**

    - query_regions (np.ndarray): (R, 4) float32; x0, y0, x1, y1 in pixels of the query view.
    - key_regions (np.ndarray): (R, 4) float32; the same boxes in pixels of the key view.
    - paired (np.ndarray): (R,) bool; whether a box lies within both views.
    """

    def transform(self, results: dict) -> dict:
        size = results['img_shape'][0]
        height, width = results['loaded_shape']
        full_height, full_width = results['ori_shape']
        boxes = results['boxes'] * np.tile([width / full_width, height / full_height], 2)
        if results['flip']:
            boxes = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
        image = np.array([0, 0, size, size], dtype=np.float64)
        views = [map_boxes(boxes, image, crop, size) for crop in results['crops']]
        inside = [(view[:, :2] >= 0).all(1) & (view[:, 2:] <= size).all(1) for view in views]
        results['query_regions'], results['key_regions'] = (x.astype(np.float32) for x in views)
        results['paired'] = inside[0] & inside[1]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
