"""Random changes of color and sharpness, with independent parameters for each view.

A transform stores its random parameters in a plan, a tuple of (operation, parameter) pairs.
:func:`change_view` applies a plan in the data loading worker.
:class:`~mmcrosscl.models.ViewPreprocessor` applies a plan on the training device. ``OPERATIONS`` is
the table of all operations. A new operation needs one row.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from torch import Tensor

from mmcrosscl.errors import InputError
from mmcrosscl.registry import TRANSFORMS

from . import photometric_cpu as cpu
from . import photometric_device as device

Plan = tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A photometric operation.

    Args:
        on_cpu (Callable): Function that changes one view; see :mod:`.photometric_cpu`.
        on_device (Callable): Function that changes a batch of views; see
            :mod:`.photometric_device`. Operations with the same function are applied in one call.
        parameter_range (Callable): Function that returns the range (low, high) of the random
            parameter. Its input is the amount, a setting of the transform.
        arguments (tuple[float, ...]): Additional arguments of ``on_device``. Defaults to ().
        max_amount (float): Maximum of the amount. Defaults to no limit.
    """

    on_cpu: Callable[[np.ndarray, float], np.ndarray]
    on_device: Callable[[Tensor, Tensor, float], Tensor]
    parameter_range: Callable[[Any], tuple[float, float]]
    arguments: tuple[float, ...] = ()
    max_amount: float = math.inf


def _factor(amount: float) -> tuple[float, float]:
    return max(0, 1 - amount), 1 + amount


def _shift(amount: float) -> tuple[float, float]:
    return -amount, amount


def _range(amount: tuple[float, float]) -> tuple[float, float]:
    low, high = amount
    return low, high


def _unused(_: float) -> tuple[float, float]:
    return 0.0, 0.0


OPERATIONS = dict(
    blur=Operation(
        on_cpu=cpu.gaussian_blur,
        on_device=device.gaussian_blur,
        # the amount of blur is already a range
        parameter_range=_range,
    ),
    brightness=Operation(
        on_cpu=cpu.adjust_brightness,
        on_device=device.blend,
        arguments=(0.0, 0.0),
        parameter_range=_factor,
    ),
    contrast=Operation(
        on_cpu=cpu.adjust_contrast,
        on_device=device.blend,
        arguments=(1.0, 0.0),
        parameter_range=_factor,
    ),
    saturation=Operation(
        on_cpu=cpu.adjust_saturation,
        on_device=device.blend,
        arguments=(0.0, 1.0),
        parameter_range=_factor,
    ),
    hue=Operation(
        on_cpu=cpu.adjust_hue,
        on_device=device.adjust_hue,
        parameter_range=_shift,
        max_amount=0.5,
    ),
    # the same blend as saturation, with factor 0
    grayscale=Operation(
        on_cpu=cpu.to_grayscale,
        on_device=device.blend,
        arguments=(0.0, 1.0),
        parameter_range=_unused,
    ),
)


def change_view(view: np.ndarray, plan: Plan) -> np.ndarray:
    """Apply a plan to an (H, W, 3) uint8 RGB view."""
    for name, parameter in plan:
        view = OPERATIONS[name].on_cpu(view, parameter)
    return view


class PerView(BaseTransform):
    """Base class of transforms that change each view independently, with a given probability.

    **Required Keys:**

    - img (np.ndarray | list[np.ndarray]): (H, W, 3) uint8, RGB; one image or a list of views.

    **Modified Keys:**

    - img, if ``on_device`` is False.

    **Added Keys:**

    - photometric (list[Plan]), if ``on_device`` is True: The plan of each view.

    Args:
        prob (float): Probability that a view is changed.
        on_device (bool): Add the plan to the results and let the training device apply it. The data
            preprocessor of the model must be :class:`~mmcrosscl.models.ViewPreprocessor`.

    Raises:
        InputError: If ``prob`` is not within 0 to 1, or a transform with ``on_device=False``
            follows one with ``on_device=True``.
    """

    def __init__(self, prob: float, on_device: bool) -> None:
        if not 0 <= prob <= 1:
            raise InputError(f'{type(self).__name__} has prob {prob}; set a value from 0 to 1')
        self.prob = prob
        self.on_device = on_device

    @abstractmethod
    def random_plan(self) -> Plan:
        """Return a plan for one view, with new random parameters."""

    def transform(self, results: dict) -> dict:
        img = results['img']
        views = img if isinstance(img, list) else [img]
        plans = [self.random_plan() if np.random.rand() < self.prob else () for _ in views]
        if self.on_device:
            before = results.get('photometric') or [()] * len(views)
            results['photometric'] = [old + new for old, new in zip(before, plans)]
            return results
        if results.get('photometric'):
            raise InputError(
                f'{type(self).__name__} follows a transform with on_device=True, but would be '
                f'applied before that transform; set on_device=True in {type(self).__name__}'
            )
        views = [change_view(view, plan) for view, plan in zip(views, plans)]
        results['img'] = views if isinstance(img, list) else views[0]
        return results


@TRANSFORMS.register_module()
class RandomGaussianBlur(PerView):
    """Blur each view with a Gaussian of random strength. See :class:`PerView` for the keys.

    Args:
        sigma_range (tuple[float, float]): Range of the standard deviation in pixels, which is
            uniformly distributed. Defaults to (0.1, 2).
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
        low, high = OPERATIONS['blur'].parameter_range(sigma_range)
        if not 0 < low <= high:
            raise InputError(f'sigma_range is {(low, high)}; set a range with 0 < low <= high')
        self.sigma_range = (low, high)

    def random_plan(self) -> Plan:
        return (('blur', np.random.uniform(*self.sigma_range)),)


@TRANSFORMS.register_module()
class RandomColorJitter(PerView):
    """Change brightness, contrast, saturation and hue of each view in random order.

    An amount x of brightness, contrast or saturation gives a factor that is uniformly distributed
    in [max(0, 1 − x), 1 + x]. An amount x of hue gives a shift that is uniformly distributed in
    [−x, x] turns. These ranges are those of torchvision's ``ColorJitter``. See :class:`PerView` for
    the keys.

    Args:
        brightness (float): Amount of brightness. Defaults to 0.4.
        contrast (float): Amount of contrast. Defaults to 0.4.
        saturation (float): Amount of saturation. Defaults to 0.4.
        hue (float): Amount of hue, at most 0.5. Defaults to 0.1.
        prob (float): Defaults to 0.8.
        on_device (bool): Defaults to False.

    Raises:
        InputError: If an amount is negative or ``hue`` is above 0.5.
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
            if not 0 <= amount <= OPERATIONS[name].max_amount:
                raise InputError(
                    f'{name} is {amount}; set a value of at least 0, and at most 0.5 for hue'
                )
        self.ranges = {name: OPERATIONS[name].parameter_range(x) for name, x in amounts.items()}

    def random_plan(self) -> Plan:
        names = np.random.permutation(list(self.ranges)).tolist()
        return tuple((name, np.random.uniform(*self.ranges[name])) for name in names)


@TRANSFORMS.register_module()
class RandomGrayscale(PerView):
    """Convert each view to grayscale with three channels. See :class:`PerView` for the keys.

    Args:
        prob (float): Defaults to 0.2.
        on_device (bool): Defaults to False.
    """

    def __init__(self, prob: float = 0.2, on_device: bool = False) -> None:
        super().__init__(prob, on_device)

    def random_plan(self) -> Plan:
        return (('grayscale', 0.0),)
