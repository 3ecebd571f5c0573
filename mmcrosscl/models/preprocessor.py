"""Photometric operations and normalization of the views on the training device."""

from collections.abc import Callable, Iterator, Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmcrosscl.datasets.transforms.photometric import OPERATIONS, Plan, change_view
from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS

from .communication import to_device


@MODELS.register_module()
class ViewPreprocessor(BaseDataPreprocessor):
    """Moves views to the device, applies their photometric plans, and normalizes the views.

    Views are copied to the device as uint8, which is a quarter of their size in float32.
    Transforms with ``on_device=True`` create a photometric plan for each view, which the
    preprocessor applies. On a CPU, it calls the functions of the data pipeline. On other devices,
    it calls :func:`change_views`.

    Args:
        mean (Sequence[float], optional): Mean of each channel, for values from 0 to 255. Defaults
            to None (no normalization).
        std (Sequence[float], optional): Standard deviation of each channel, for values from 0 to
            255. Defaults to None (no normalization).
        rgb_to_bgr (bool): Reverse the channels of the views, which are in RGB order, before the
            normalization. ``mean`` and ``std`` are then in the order B, G, R. Defaults to False.

    Attributes:
        mean (tuple[float, ...]): Mean of each channel; zeros without normalization.
        std (tuple[float, ...]): Standard deviation of each channel; ones without normalization.
        channel_order (str): 'rgb' or 'bgr'.

    Raises:
        InputError: If only one of mean and std is set, or one does not have three values.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        rgb_to_bgr: bool = False,
    ) -> None:
        super().__init__(non_blocking=True)
        if (mean is None) != (std is None) or (
            mean is not None and std is not None and not len(mean) == len(std) == 3
        ):
            raise InputError(
                f'mean is {mean} and std is {std}; set both for three channels, or omit both'
            )
        self.mean = tuple(map(float, mean or (0, 0, 0)))
        self.std = tuple(map(float, std or (1, 1, 1)))
        self.channel_order = 'bgr' if rgb_to_bgr else 'rgb'
        center, width = torch.tensor(self.mean), torch.tensor(self.std)
        self.register_buffer('scale', 1 / width, persistent=False)
        self.register_buffer('shift', -center / width, persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch from :func:`~mmcrosscl.datasets.collate_views`.

        Args:
            data (dict): 'inputs', the query views and the key views, each (N, 3, S, S) uint8, and
                'data_samples', a list of N :class:`~mmcrosscl.structures.ViewPairSample`.
            training (bool): Not used.

        Returns:
            dict: The batch with 'inputs' in float32, photometrically changed and normalized.
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
        # one image at a time, so that it stays in the cache for all operations
        for image, plan, prepared in zip(images, plans, inputs):
            if plan:
                image = torch.from_numpy(change_view(image.numpy(), plan))
            if self.channel_order == 'bgr':
                image = image.flip(-1)
            # pixel rows are flattened, because an innermost loop over three channels is slow
            prepared.copy_(image).flatten(1).mul_(scale).add_(shift)
        return inputs.permute(0, 3, 1, 2)

    def _on_device(self, views: Tensor, plans: Sequence[Plan]) -> Tensor:
        with torch.autocast(views.device.type, enabled=False):
            views = change_views(views.to(self.scale.dtype), plans)
            if self.channel_order == 'bgr':
                views = views.flip(1)
            scale, shift = (x[:, None, None] for x in (self.scale, self.shift))
            return torch.addcmul(shift, views, scale)


def change_views(views: Tensor, plans: Sequence[Plan]) -> Tensor:
    """Apply a plan to each view, on any device.

    The result equals the result of :func:`~mmcrosscl.datasets.transforms.change_view` within
    rounding. The host does not wait for the device, because the plans are in host memory. Views
    that need the same operation next share one call.

    Args:
        views (Tensor): (N, 3, S, S), floating point, with values from 0 to 255.
        plans (Sequence[Plan]): N plans, which may differ in length.

    Returns:
        Tensor: (N, 3, S, S), the changed views, floating point with integer values.
    """
    groups = list(_groups(plans))
    if not groups:
        return views
    # two copies to the device are sufficient for the rows and parameters of all groups
    members = [member for _, group in groups for member in group]
    rows = torch.tensor([row for row, _ in members])
    width = max(len(values) for _, values in members)
    padded = [[*values, *[0.0] * (width - len(values))] for _, values in members]
    parameters = torch.tensor(padded, dtype=views.dtype)
    rows, parameters = to_device(rows, views.device), to_device(parameters, views.device)
    start = 0
    views = views.clone()
    for apply, group in groups:
        part = slice(start, start + len(group))
        start = part.stop
        largest = max(values[0] for _, values in group)
        views.index_copy_(0, rows[part], apply(views[rows[part]], parameters[part], largest))
    return views


def _groups(
    plans: Sequence[Plan],
) -> Iterator[tuple[Callable, list[tuple[int, tuple[float, ...]]]]]:
    """Yield device functions, each with a list of (row, function arguments)."""
    applied = [0] * len(plans)
    while True:
        waiting: dict[Callable, list[tuple[int, tuple[float, ...]]]] = {}
        for row, plan in enumerate(plans):
            if applied[row] < len(plan):
                name, parameter = plan[applied[row]]
                operation = OPERATIONS[name]
                member = row, (parameter, *operation.arguments)
                waiting.setdefault(operation.on_device, []).append(member)
        if not waiting:
            return
        function = max(waiting, key=lambda function: len(waiting[function]))
        for row, _ in waiting[function]:
            applied[row] += 1
        yield function, waiting[function]
