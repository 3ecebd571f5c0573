"""Pooling of boxes on a feature map into unit vectors, with layers of ``mmcv.ops``."""

from collections.abc import Mapping

import torch.nn.functional as F
from mmcv import ops
from torch import Tensor, nn

from mmcrosscl.errors import InputError


def build_roi_layer(settings: Mapping, stride: float) -> nn.Module:
    """Build a layer of ``mmcv.ops`` that pools one cell per box from a pyramid level.

    Args:
        settings (Mapping): The layer's type and arguments, as in MMDetection's RoI extractors, such
            as ``dict(type='RoIAlign', output_size=1, sampling_ratio=0, aligned=False)``.
        stride (float): Pixels of the view per cell of the level.

    Raises:
        InputError: If the layer is unknown or its output is not a single cell.
    """
    settings = dict(settings)
    name = settings.pop('type', None)
    layer = getattr(ops, str(name), None)
    if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
        raise InputError(
            f'roi_layer {name!r} is not a layer of mmcv.ops; set type to a layer, such as RoIAlign'
        )
    if settings.get('output_size') not in (1, (1, 1), [1, 1]):
        raise InputError(
            f'roi_layer has output_size {settings.get("output_size")}, but a region is one vector; '
            'set output_size=1'
        )
    return layer(spatial_scale=1 / stride, **settings)


def region_vectors(feature_map: Tensor, rois: Tensor, layer: nn.Module) -> Tensor:
    """Pool boxes from a feature map and L2-normalize the vectors.

    Args:
        feature_map (Tensor): (N, C, H, W), a pyramid level of N views, in any memory format.
        rois (Tensor): (R, 5), on the same device: index of the view, then x0, y0, x1, y1 in pixels
            of the view.
        layer (nn.Module): See :func:`build_roi_layer`.

    Returns:
        Tensor: (R, C), unit length. If R is 0, the tensor is still part of the graph.

    Raises:
        InputError: If the layer is PrRoIPool and the map is not on a GPU.
    """
    if len(rois) == 0:
        return F.normalize(feature_map[:0].sum(dim=(2, 3)), dim=1)
    if isinstance(layer, ops.PrRoIPool) and not feature_map.is_cuda:
        raise InputError('PrRoIPool runs on GPUs only; set roi_layer to RoIAlign for the CPU')
    # mmcv's ops ignore tensor strides and would misread a map in channels-last memory
    feature_map = feature_map.contiguous()
    return F.normalize(layer(feature_map, rois.to(feature_map.dtype)).flatten(1), dim=1)
