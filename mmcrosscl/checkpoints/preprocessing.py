"""Input format of a built model."""

from dataclasses import replace
from typing import Any

from torch import nn

from .normalization import InputFormat, preprocessor_input_format


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
        return InputFormat(preprocessor.mean, preprocessor.std, preprocessor.channel_order, style)
    if not hasattr(preprocessor, '_enable_normalize'):
        return None
    settings = {}
    if preprocessor._enable_normalize:
        tensors = dict(mean=preprocessor.mean, std=preprocessor.std)
        settings = {name: tensor.flatten().tolist() for name, tensor in tensors.items()}
    swapped = getattr(preprocessor, 'to_rgb', False)
    swapped = swapped or getattr(preprocessor, '_channel_conversion', False)
    found = preprocessor_input_format({**settings, 'to_rgb': swapped})
    return found and replace(found, style=style)


def style_of(backbone: nn.Module) -> str | None:
    """Return the style of the first bottleneck with a stride, or None if there is none."""
    for block in backbone.modules():
        convs: list[Any] = [getattr(block, f'conv{index}', None) for index in (1, 2, 3)]
        if [getattr(conv, 'kernel_size', None) for conv in convs] == [(1, 1), (3, 3), (1, 1)]:
            first, second = convs[0].stride, convs[1].stride
            if first != second:
                return 'caffe' if first > second else 'pytorch'
    return None
