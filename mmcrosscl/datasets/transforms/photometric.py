"""Changes of colour and sharpness, drawn for each view on its own.

Every transform takes ``img`` as one image or as a list of views. What it draws is a plan, a few
steps of (operation, value); :func:`change_view` carries plans out here and
:class:`~mmcrosscl.models.ViewPreprocessor` on the training device.
"""

from abc import abstractmethod

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmcrosscl.errors import InputError
from mmcrosscl.registry import TRANSFORMS

# ITU-R 601-2 luma of R, G, B, as Pillow's and torchvision's grey
LUMA = (0.299, 0.587, 0.114)

Plan = tuple[tuple[str, float], ...]


class PerView(BaseTransform):
    """Apply a change with some probability, drawn anew for each view.

    **Required Keys:**

    - img (np.ndarray | list[np.ndarray]): (H, W, 3) uint8, RGB.

    **Modified Keys:**

    - img, unless ``on_device``.

    **Added Keys:**

    - photometric (list[Plan]): With ``on_device``, what to do to each view.

    Args:
        prob (float): Probability for each view.
        on_device (bool): Leave the change to the training device: only draw it here. The model's
            data preprocessor must then be :class:`~mmcrosscl.models.ViewPreprocessor`.

    Raises:
        InputError: If the probability is not within 0 to 1, or a change here follows one that is
            left to the device.
    """

    def __init__(self, prob: float, on_device: bool) -> None:
        if not 0 <= prob <= 1:
            raise InputError(f'{type(self).__name__} has prob {prob}; give 0 to 1')
        self.prob = prob
        self.on_device = on_device

    @abstractmethod
    def draw(self) -> Plan:
        """What to do to one view, with fresh values."""

    def transform(self, results: dict) -> dict:
        img = results['img']
        views = img if isinstance(img, list) else [img]
        plans = [self.draw() if np.random.rand() < self.prob else () for _ in views]
        if self.on_device:
            before = results.get('photometric') or [()] * len(views)
            results['photometric'] = [old + new for old, new in zip(before, plans)]
            return results
        if results.get('photometric'):
            raise InputError(
                f'{type(self).__name__} follows a step with on_device=True and would come before '
                'it; set on_device=True here too'
            )
        views = [change_view(view, plan) for view, plan in zip(views, plans)]
        results['img'] = views if isinstance(img, list) else views[0]
        return results


def change_view(view: np.ndarray, plan: Plan) -> np.ndarray:
    """Carry out a plan on an (H, W, 3) uint8 view."""
    for operation, value in plan:
        view = OPERATIONS[operation](view, value)
    return view


@TRANSFORMS.register_module()
class RandomGaussianBlur(PerView):
    """Gaussian blur of random strength; see :class:`PerView` for keys.

    Args:
        sigma_range (tuple[float, float]): Standard deviation in pixels, drawn uniformly.
            Defaults to (0.1, 2).
        prob (float): Defaults to 0.5.
        on_device (bool): Defaults to False.

    Raises:
        InputError: If the range is empty or not positive.
    """

    def __init__(
        self,
        sigma_range: tuple[float, float] = (0.1, 2.0),
        prob: float = 0.5,
        on_device: bool = False,
    ) -> None:
        super().__init__(prob, on_device)
        low, high = sigma_range
        if not 0 < low <= high:
            raise InputError(f'sigma_range is {(low, high)}; give 0 < low <= high')
        self.sigma_range = (low, high)

    def draw(self) -> Plan:
        return (('blur', np.random.uniform(*self.sigma_range)),)


@TRANSFORMS.register_module()
class RandomColorJitter(PerView):
    """Brightness, contrast, saturation and hue in random order; see :class:`PerView` for keys.

    Factors of the first three are drawn from [max(0, 1 − x), 1 + x], the hue's shift from [−x, x]
    turns, as torchvision's ``ColorJitter`` does.

    Args:
        brightness (float): Defaults to 0.4.
        contrast (float): Defaults to 0.4.
        saturation (float): Defaults to 0.4.
        hue (float): At most 0.5. Defaults to 0.1.
        prob (float): Defaults to 0.8.
        on_device (bool): Defaults to False.

    Raises:
        InputError: If an amount is negative or the hue's is above 0.5.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
        prob: float = 0.8,
        on_device: bool = False,
    ) -> None:
        super().__init__(prob, on_device)
        amounts = dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
        for name, amount in amounts.items():
            if amount < 0 or (name == 'hue' and amount > 0.5):
                raise InputError(f'{name} is {amount}; give 0 or more, and at most 0.5 for hue')
        self.ranges = {
            name: (-x, x) if name == 'hue' else (max(0, 1 - x), 1 + x)
            for name, x in amounts.items()
        }

    def draw(self) -> Plan:
        names = np.random.permutation(list(self.ranges)).tolist()
        return tuple((name, np.random.uniform(*self.ranges[name])) for name in names)


@TRANSFORMS.register_module()
class RandomGrayscale(PerView):
    """Take the colour out and keep three channels; see :class:`PerView` for keys.

    Args:
        prob (float): Defaults to 0.2.
        on_device (bool): Defaults to False.
    """

    def __init__(self, prob: float = 0.2, on_device: bool = False) -> None:
        super().__init__(prob, on_device)

    def draw(self) -> Plan:
        # no saturation at all
        return (('grey', 0.0),)


def gaussian_blur(view: np.ndarray, sigma: float) -> np.ndarray:
    """Blur (H, W, 3) uint8 by a Gaussian of ``sigma`` pixels."""
    return cv2.GaussianBlur(view, (0, 0), sigma)


def adjust_brightness(view: np.ndarray, factor: float) -> np.ndarray:
    """Blend (H, W, 3) uint8 with black: ``factor · view``."""
    return _look_up(view, factor, 0.0)


def adjust_contrast(view: np.ndarray, factor: float) -> np.ndarray:
    """Blend (H, W, 3) uint8 with its mean grey: ``factor · view + (1 − factor) · mean``."""
    mean = int(cv2.mean(_luma(view))[0] + 0.5)
    return _look_up(view, factor, (1 - factor) * mean)


def adjust_saturation(view: np.ndarray, factor: float) -> np.ndarray:
    """Blend (H, W, 3) uint8 with its grey: ``factor · view + (1 − factor) · grey``."""
    mix = factor * np.eye(3) + (1 - factor) * np.array([LUMA] * 3)
    return cv2.transform(view, mix)


def adjust_hue(view: np.ndarray, shift: float) -> np.ndarray:
    """Turn the hue of (H, W, 3) uint8 by ``shift`` turns, −0.5 to 0.5."""
    hsv = cv2.cvtColor(view, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(int(shift * 255) % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def grey(view: np.ndarray, _: float = 0.0) -> np.ndarray:
    """The luma of (H, W, 3) uint8 in all three channels."""
    return cv2.cvtColor(_luma(view), cv2.COLOR_GRAY2RGB)


OPERATIONS = dict(
    blur=gaussian_blur,
    brightness=adjust_brightness,
    contrast=adjust_contrast,
    saturation=adjust_saturation,
    hue=adjust_hue,
    grey=grey,
)


def _luma(view: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(view, cv2.COLOR_RGB2GRAY)


def _look_up(view: np.ndarray, factor: float, offset: float) -> np.ndarray:
    # Pillow cuts blends off to whole levels where it could round
    table = np.clip(factor * np.arange(256) + offset, 0, 255).astype(np.uint8)
    return cv2.LUT(view, table)
