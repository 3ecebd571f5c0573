"""Sliding windows of the query view, and their corresponding regions in the key view."""

from functools import lru_cache

import numpy as np
from mmcv.transforms import BaseTransform

from mmcrosscl.errors import InputError
from mmcrosscl.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RegionPairs(BaseTransform):
    """Place sliding windows on the query view and map each window to the key view.

    ``window`` and ``stride`` apply to views of ``base_size`` and are scaled to the size of the
    view. A window that does not lie within the query view is omitted. A window whose region in the
    key view does not lie within the key view is not paired.

    **Required Keys:**

    - crops (np.ndarray): (2, 4); left, top, width, height of the query crop and of the key crop.
    - img_shape (tuple): (S, S) of both views.

    **Added Keys:**

    - query_regions (np.ndarray): (R, 4) float32; x0, y0, x1, y1 in pixels of the query view,
      row by row.
    - key_regions (np.ndarray): (R, 4) float32; the corresponding regions in pixels of the key view.
    - paired (np.ndarray): (R,) bool; whether a region lies within both views.

    Args:
        window (float): Side of a window in pixels. Defaults to 48.
        stride (float): Step between windows in pixels. Defaults to 32.
        grid (int): Number of windows per row and per column. Defaults to 6.
        base_size (float): Side in pixels of the view to which ``window`` and ``stride`` apply.
            Defaults to 224.

    Raises:
        InputError: If an argument is not positive.
    """

    def __init__(
        self, window: float = 48, stride: float = 32, grid: int = 6, base_size: float = 224
    ) -> None:
        if min(window, stride, grid, base_size) <= 0:
            raise InputError(
                f'window {window}, stride {stride}, grid {grid} and base_size {base_size} must all '
                'be above 0'
            )
        self.window = window
        self.stride = stride
        self.grid = grid
        self.base_size = base_size

    def transform(self, results: dict) -> dict:
        size = results['img_shape'][0]
        query = windows(size, self.window, self.stride, self.grid, self.base_size)
        query_crop, key_crop = results['crops']
        key = map_boxes(query, query_crop, key_crop, size)
        paired = (key[:, :2] >= 0).all(axis=1) & (key[:, 2:] < size).all(axis=1)
        results['query_regions'] = query.astype(np.float32)
        results['key_regions'] = key.astype(np.float32)
        results['paired'] = paired
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(window={self.window}, stride={self.stride}, grid={self.grid}, '
            f'base_size={self.base_size})'
        )


@lru_cache
def windows(
    size: float, window: float = 48, stride: float = 32, grid: int = 6, base_size: float = 224
) -> np.ndarray:
    """Return the sliding windows within a view of side ``size``; see :class:`RegionPairs`.

    Returns:
        np.ndarray: (R, 4) float64, read-only, row by row.
    """
    scale = size / base_size
    start = np.arange(grid) * stride * scale
    start = start[start + window * scale < size]
    y0, x0 = np.meshgrid(start, start, indexing='ij')
    corner = np.stack((x0, y0), axis=-1).reshape(-1, 2)
    boxes = np.concatenate((corner, corner + window * scale), axis=1)
    boxes.flags.writeable = False
    return boxes


def map_boxes(
    boxes: np.ndarray, from_crop: np.ndarray, to_crop: np.ndarray, size: float
) -> np.ndarray:
    """Map boxes from one view to another view of the same image.

    Args:
        boxes (np.ndarray): (R, 4), x0, y0, x1, y1 in pixels of the first view.
        from_crop (np.ndarray): Left, top, width, height of the first view's crop in the image.
        to_crop (np.ndarray): Left, top, width, height of the second view's crop in the image.
        size (float): Side of both views.

    Returns:
        np.ndarray: (R, 4), x0, y0, x1, y1 in pixels of the second view. Boxes may lie outside of
        the second view.
    """
    points = boxes.reshape(-1, 2, 2)
    image = from_crop[:2] + points * from_crop[2:] / size
    return ((image - to_crop[:2]) * size / to_crop[2:]).reshape(-1, 4)
