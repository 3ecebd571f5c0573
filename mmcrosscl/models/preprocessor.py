"""What happens to the views on the training device before they are encoded."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmcrosscl.datasets.transforms.photometric import LUMA, Plan, change_view
from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS

from .communication import to_device


@MODELS.register_module()
class ViewPreprocessor(BaseDataPreprocessor):
    """Bring views to the device, carry out the changes left to it, normalise.

    Takes the views as bytes, so that a quarter of the memory crosses the bus. Changes that
    pipeline steps left with ``on_device=True`` are made here, on every sample by itself: by the
    functions of the pipeline on a CPU, by :func:`change_views` elsewhere.

    Args:
        mean (Sequence[float], optional): Of R, G, B, in grey levels. Defaults to None: views are
            not normalised.
        std (Sequence[float], optional): Of R, G, B, in grey levels.

    Raises:
        InputError: If only one of mean and std is given, or not for three channels.
    """

    def __init__(
        self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        super().__init__(non_blocking=True)
        if (mean is None) != (std is None) or mean is not None and not len(mean) == len(std) == 3:
            raise InputError(f'mean is {mean} and std is {std}; give both for R, G and B, or none')
        mean, std = torch.tensor(mean or [0.0] * 3), torch.tensor(std or [1.0] * 3)
        self.register_buffer('scale', 1 / std, persistent=False)
        self.register_buffer('shift', -mean / std, persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Make ready what :func:`~mmcrosscl.datasets.collate_views` gives.

        Args:
            data (dict): 'inputs', two (N, 3, S, S) uint8 batches, and 'data_samples', N of them.
            training (bool): Not used.

        Returns:
            dict: The same with 'inputs' in float32, changed and normalised.
        """
        samples = data['data_samples']
        views = self.cast_data(data['inputs'])
        plans = [sample.get('photometric', [()] * len(views)) for sample in samples]
        prepare = self._on_cpu if self.scale.device.type == 'cpu' else self._on_device
        inputs = [prepare(view, plan) for view, plan in zip(views, zip(*plans))]
        return dict(inputs=inputs, data_samples=samples)

    def _on_cpu(self, views: Tensor, plans: Sequence[Plan]) -> Tensor:
        images = views.permute(0, 2, 3, 1).contiguous()
        scale, shift = (x.repeat(views.shape[-1]) for x in (self.scale, self.shift))
        inputs = torch.empty(images.shape, dtype=scale.dtype)
        # image by image, each while it is in the cache
        for image, plan, made in zip(images, plans, inputs):
            if plan:
                image = torch.from_numpy(change_view(image.numpy(), plan))
            # by rows of pixels: a loop over three channels in the innermost place is slow
            made.copy_(image).flatten(1).mul_(scale).add_(shift)
        return inputs.permute(0, 3, 1, 2)

    def _on_device(self, views: Tensor, plans: Sequence[Plan]) -> Tensor:
        with torch.autocast(views.device.type, enabled=False):
            views = change_views(views.to(self.scale.dtype), plans)
            scale, shift = (x[:, None, None] for x in (self.scale, self.shift))
            return torch.addcmul(shift, views, scale)


def change_views(views: Tensor, plans: Sequence[Plan]) -> Tensor:
    """Carry out each view's own plan, on any device.

    What :func:`~mmcrosscl.datasets.transforms.change_view` does to a view, to within rounding. A
    GPU is not waited for: who gets which change is known here, and each kind of change is made to
    all views at once whose next it is.

    Args:
        views (Tensor): (N, 3, S, S), grey levels in float.
        plans (Sequence[Plan]): N plans, of any lengths.

    Returns:
        Tensor: (N, 3, S, S), changed, in whole grey levels.
    """
    groups = list(_groups(plans))
    if not groups:
        return views
    # all that the device has to know, in two copies
    members = [member for _, some in groups for member in some]
    rows = torch.tensor([row for row, _, _ in members])
    steps = torch.tensor(
        [[value, *BLENDS.get(name, (0.0, 0.0))] for _, name, value in members], dtype=views.dtype
    )
    rows, steps = to_device(rows, views.device), to_device(steps, views.device)
    start = 0
    views = views.clone()
    for kind, members in groups:
        part = slice(start, start + len(members))
        start = part.stop
        changed = kind(views[rows[part]], steps[part], max(value for *_, value in members))
        views.index_copy_(0, rows[part], changed)
    return views


# how much of the mean grey, and of the pixel's own grey, a blend's other end has
BLENDS = dict(brightness=(0.0, 0.0), contrast=(1.0, 0.0), saturation=(0.0, 1.0), grey=(0.0, 1.0))


def _groups(plans: Sequence[Plan]) -> Iterator[tuple[Callable, list[tuple[int, str, float]]]]:
    """Yields an operation and its (row, name, value): the next of some views at a time."""
    kinds = dict(blur=_blur, hue=_turn_hue) | dict.fromkeys(BLENDS, _blend)
    done = [0] * len(plans)
    while True:
        waiting = {}
        for row, plan in enumerate(plans):
            if done[row] < len(plan):
                name, value = plan[done[row]]
                waiting.setdefault(kinds[name], []).append((row, name, value))
        if not waiting:
            return
        kind = max(waiting, key=lambda kind: len(waiting[kind]))
        for row, *_ in waiting[kind]:
            done[row] += 1
        yield kind, waiting[kind]


def _blend(views: Tensor, steps: Tensor, _: float) -> Tensor:
    factor, mean_share, grey_share = steps[:, :, None, None, None].unbind(dim=1)
    grey = sum(share * colour for share, colour in zip(LUMA, views.split(1, dim=1))).round_()
    mean = grey.mean(dim=(2, 3), keepdim=True).round()
    other = mean_share * mean + grey_share * grey
    # Pillow cuts blends off to whole levels; what rounding left just below one counts as it
    return (factor * views + (1 - factor) * other + 1e-3).clamp_(0, 255).floor_()


def _blur(views: Tensor, steps: Tensor, strongest: float) -> Tensor:
    radius = min(int(3 * strongest) + 1, views.shape[-1] - 1)
    offsets = torch.arange(-radius, radius + 1, device=views.device, dtype=views.dtype)
    weights = torch.softmax(-0.5 * (offsets / steps[:, :1]) ** 2, dim=1)
    weights = weights.repeat_interleave(3, dim=0)[:, None, None]
    padded = F.pad(views, [radius] * 4, mode='reflect').flatten(0, 1)[None]
    groups = padded.shape[1]
    blurred = F.conv2d(padded, weights, groups=groups)
    blurred = F.conv2d(blurred, weights.transpose(2, 3), groups=groups)
    return blurred.view(views.shape).round_()


def _turn_hue(views: Tensor, steps: Tensor, _: float) -> Tensor:
    """Through HSV without it: value and spread stay, the hue, in sixths of a turn, moves on."""
    high, low = views.amax(dim=1, keepdim=True), views.amin(dim=1, keepdim=True)
    spread = high - low
    red, green, blue = views.split(1, dim=1)
    hue = torch.where(
        high == red,
        green - blue,
        torch.where(high == green, blue - red + 2 * spread, red - green + 4 * spread),
    ) / spread.clamp(min=1e-6)
    place = hue + 6 * steps[:, :1, None, None]
    # how far R, G and B are from the value: Smith, 1978, in one formula for the three
    offsets = torch.arange(5, 0, -2, device=views.device)[:, None, None]
    sixths = (place + offsets) % 6
    return (high - spread * torch.minimum(sixths, 4 - sixths).clamp_(0, 1)).round_()
