"""Boxes on a pyramid level → one vector each, through mmcv.ops."""

import re

from mmcv import ops
from torch import Tensor, nn

from mmcrosscl.errors import InputError


def level_stride(level: str) -> int:
    """Pixels of the view per cell of a pyramid level: 8 for 'p3', 16 for 'p4'.

    Raises:
        InputError: If the name is not that of a pyramid level.
    """
    if not re.fullmatch('p[2-5]', level):
        raise InputError(f'unknown level {level!r}; name a pyramid level such as "p3" or "p4"')
    return 2 ** int(level[1])


class RegionPooling(nn.Module):
    """One pooling op per pyramid level, of any kind in ``mmcv.ops``.

    Args:
        levels (Sequence[str]): Names of the levels, such as ``('p4', 'p3')``.
        roi_layer (dict): The op and its settings, as MMDetection's RoI extractors take it, such as
            ``dict(type='RoIAlign', output_size=1, sampling_ratio=0, aligned=False)``.

    Raises:
        InputError: If a level or op is unknown, or the op's output is not a single cell.
    """

    def __init__(self, levels: tuple[str, ...], roi_layer: dict) -> None:
        super().__init__()
        settings = dict(roi_layer)
        name = settings.pop('type', None)
        layer = getattr(ops, str(name), None)
        if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
            raise InputError(
                f'roi_layer {name!r} is no layer in mmcv.ops; name one as its type: RoIAlign'
            )
        if settings.get('output_size') not in (1, (1, 1), [1, 1]):
            raise InputError(
                f'roi_layer has output_size {settings.get("output_size")}; a region is one vector: '
                'set output_size=1'
            )
        self.layers = nn.ModuleDict(
            {level: layer(spatial_scale=1 / level_stride(level), **settings) for level in levels}
        )

    def forward(self, feature_map: Tensor, level: str, rois: Tensor) -> Tensor:
        """Pool boxes from a map.

        Args:
            feature_map (Tensor): (N, C, H, W), the level's map of N views.
            level (str): Which level it is.
            rois (Tensor): (R, 5); which of the N views, x0, y0, x1, y1 in pixels of the view.

        Returns:
            Tensor: (R, C). With no box at all it is (0, C) and still part of the graph.
        """
        if len(rois) == 0:
            return feature_map[:0].sum(dim=(2, 3))
        layer = self.layers[level]
        if isinstance(layer, ops.PrRoIPool) and not feature_map.is_cuda:
            raise InputError('PrRoIPool runs on GPUs only; set roi_layer to RoIAlign for the CPU')
        # mmcv's ops read memory as contiguous NCHW, whatever the strides (channels-last) say
        feature_map = feature_map.contiguous()
        return layer(feature_map, rois.to(feature_map.dtype)).flatten(1)
