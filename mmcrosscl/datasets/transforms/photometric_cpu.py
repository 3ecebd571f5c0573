"""Photometric operations on one view in host memory.

Every function takes an (H, W, 3) uint8 RGB view and a parameter, and returns a view of the same
shape. Results equal those of Pillow and torchvision up to rounding.
"""

import cv2
import numpy as np

# ITU-R 601-2 luma of R, G and B, as in Pillow's and torchvision's grayscale
LUMA = (0.299, 0.587, 0.114)


def gaussian_blur(view: np.ndarray, sigma: float) -> np.ndarray:
    """Blur with a Gaussian with a standard deviation of ``sigma`` pixels."""
    return cv2.GaussianBlur(view, (0, 0), sigma)


def adjust_brightness(view: np.ndarray, factor: float) -> np.ndarray:
    """Blend with black: ``factor · view``."""
    return _look_up(view, factor, 0.0)


def adjust_contrast(view: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the view's mean gray: ``factor · view + (1 − factor) · mean``."""
    # the stub of OpenCV allows a number for every result with one value per channel
    mean = int(cv2.mean(_luma(view))[0] + 0.5)  # type: ignore[index]
    return _look_up(view, factor, (1 - factor) * mean)


def adjust_saturation(view: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the view's grayscale: ``factor · view + (1 − factor) · gray``."""
    mix = factor * np.eye(3) + (1 - factor) * np.array([LUMA] * 3)
    return cv2.transform(view, mix)


def adjust_hue(view: np.ndarray, shift: float) -> np.ndarray:
    """Shift the hue by ``shift`` turns, −0.5 to 0.5."""
    hsv: np.ndarray = cv2.cvtColor(view, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(int(shift * 255) % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def to_grayscale(view: np.ndarray, _: float = 0.0) -> np.ndarray:
    """Replace all three channels with the luma; the parameter is not used."""
    return cv2.cvtColor(_luma(view), cv2.COLOR_GRAY2RGB)


def _luma(view: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(view, cv2.COLOR_RGB2GRAY)


def _look_up(view: np.ndarray, factor: float, offset: float) -> np.ndarray:
    # like Pillow, truncate blends to integer levels instead of rounding them
    table = np.clip(factor * np.arange(256) + offset, 0, 255).astype(np.uint8)
    return cv2.LUT(view, table)
