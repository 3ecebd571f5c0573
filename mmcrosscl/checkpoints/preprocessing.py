"""Input format of a built model."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from .normalization import NONE, InputFormat, Triple


def model_input_format(model: nn.Module) -> InputFormat | None:
    """Return the input format of a built model, or None if its preprocessor does not define it.

    The channel order of MMDetection's and MMPretrain's preprocessors is that of images that are
    loaded as BGR, as by both projects.

    Args:
        model (nn.Module): Model with a ``backbone`` and usually a ``data_preprocessor``.
    """
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    style = style_of(model.get_submodule('backbone'))
    if hasattr(preprocessor, 'channel_order'):
        mean, std = (_triple(x) for x in (preprocessor.mean, preprocessor.std))
        return InputFormat(mean, std, preprocessor.channel_order, style)
    if not hasattr(preprocessor, '_enable_normalize'):
        return None
    mean, std = NONE.mean, NONE.std
    if preprocessor._enable_normalize:
        mean, std = (
            # one value stands for three equal ones
            _triple(x.flatten().expand(3).tolist())
            for x in (preprocessor.mean, preprocessor.std)
        )
    swapped = getattr(preprocessor, 'to_rgb', False)
    swapped = swapped or getattr(preprocessor, '_channel_conversion', False)
    return InputFormat(mean, std, 'rgb' if swapped else 'bgr', style)


def _triple(values: Iterable[float]) -> Triple:
    first, second, third = map(float, values)
    return first, second, third


def style_of(backbone: nn.Module) -> str | None:
    """Return the style of the first bottleneck with a stride, or None if there is none."""
    for block in backbone.modules():
        convs: list[Any] = [getattr(block, f'conv{index}', None) for index in (1, 2, 3)]
        if [getattr(conv, 'kernel_size', None) for conv in convs] == [(1, 1), (3, 3), (1, 1)]:
            first, second = convs[0].stride, convs[1].stride
            if first != second:
                return 'caffe' if first > second else 'pytorch'
    return None
