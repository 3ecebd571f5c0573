"""Photometric operations on a batch of views, on any device.

Every function takes:

- views (Tensor): (N, 3, S, S), RGB levels 0 to 255 in float.
- parameters (Tensor): (N, 1 + A), on the same device. Each row is the parameter of one view,
  followed by the ``arguments`` of its operation in ``OPERATIONS``, padded with zeros.
- largest (float): The largest of the N parameters. A function can derive a shape from this number
  without waiting for the device.

Every function returns the changed views, (N, 3, S, S), with integer levels. Results equal those of
``photometric_cpu`` up to rounding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .photometric_cpu import LUMA


def blend(views: Tensor, parameters: Tensor, _: float) -> Tensor:
    """Blend with a gray image: ``factor · view + (1 − factor) · other``.

    ``other`` is a weighted sum of the mean gray of the view and the gray of each pixel. The two
    arguments are the weights.
    """
    factor, mean_share, gray_share = parameters[:, :3, None, None, None].unbind(dim=1)
    gray = sum(share * channel for share, channel in zip(LUMA, views.split(1, dim=1))).round_()
    mean = gray.mean(dim=(2, 3), keepdim=True).round()
    other = mean_share * mean + gray_share * gray
    # Pillow truncates blends to integer levels; 1e-3 corrects rounding errors just below a level
    return (factor * views + (1 - factor) * other + 1e-3).clamp_(0, 255).floor_()


def gaussian_blur(views: Tensor, parameters: Tensor, largest: float) -> Tensor:
    """Blur with a Gaussian; the parameter is the standard deviation in pixels."""
    radius = min(int(3 * largest) + 1, views.shape[-1] - 1)
    offsets = torch.arange(-radius, radius + 1, device=views.device, dtype=views.dtype)
    weights = torch.softmax(-0.5 * (offsets / parameters[:, :1]) ** 2, dim=1)
    weights = weights.repeat_interleave(3, dim=0)[:, None, None]
    padded = F.pad(views, [radius] * 4, mode='reflect').flatten(0, 1)[None]
    groups = padded.shape[1]
    blurred = F.conv2d(padded, weights, groups=groups)
    blurred = F.conv2d(blurred, weights.transpose(2, 3), groups=groups)
    return blurred.view(views.shape).round_()


def adjust_hue(views: Tensor, parameters: Tensor, _: float) -> Tensor:
    """Shift the hue; the parameter is the shift in turns."""
    high, low = views.amax(dim=1, keepdim=True), views.amin(dim=1, keepdim=True)
    spread = high - low
    red, green, blue = views.split(1, dim=1)
    # value and spread do not change; the unit of hue is a sixth of a turn
    hue = torch.where(
        high == red,
        green - blue,
        torch.where(high == green, blue - red + 2 * spread, red - green + 4 * spread),
    ) / spread.clamp(min=1e-6)
    shifted = hue + 6 * parameters[:, :1, None, None]
    # distance of R, G and B below the value, after Smith (1978), as one formula for all three
    offsets = torch.arange(5, 0, -2, device=views.device)[:, None, None]
    sixths = (shifted + offsets) % 6
    return (high - spread * torch.minimum(sixths, 4 - sixths).clamp_(0, 1)).round_()
