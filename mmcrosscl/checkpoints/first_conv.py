"""Search for the convolution of a backbone that reads the image."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

# normalize their weights in the forward pass, so that scaled weights have no effect
STANDARDIZED = (
    'ConvAWS2d',
    'ConvWS2d',
    'ScaledStdConv2d',
    'ScaledStdConv2dSame',
    'StdConv2d',
    'StdConv2dSame',
)


@dataclass(frozen=True)
class FirstConv:
    """The only convolution of a backbone that reads the image.

    Attributes:
        name: Name of the convolution in the state dict, such as 'backbone.conv1'.
        padded: True if the convolution pads its input, or may do so.
        rescalable: False if the convolution normalizes its weights.
    """

    name: str
    padded: bool = True
    rescalable: bool = True


def first_conv_of_weights(state: Mapping[str, Tensor]) -> FirstConv | None:
    """Return the first convolution by the shapes of the weights below ``backbone.``, or None."""
    for channels in (3, 12):
        names = [
            name.removesuffix('.weight')
            for name, value in state.items()
            if name.startswith('backbone.') and name.endswith('.weight')
            if value.ndim == 4 and value.shape[1] == channels
        ]
        if names:
            return FirstConv(names[0]) if len(names) == 1 else None
    return None


def first_conv_of_model(backbone: nn.Module) -> FirstConv | None:
    """Return the first convolution of a backbone by its modules, or None if it is not certain."""
    convs = dict(_image_convs(backbone))
    if len(convs) != 1:
        return None
    ((name, conv),) = convs.items()
    kind = type(conv).__name__
    # other classes may pad in their forward pass
    padded = conv.padding != (0, 0) or kind != 'Conv2d'
    return FirstConv(f'backbone.{name}', padded, kind not in STANDARDIZED)


def _image_convs(backbone: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            yield name, module
        elif type(module).__name__ == 'Focus':
            for inner, conv in module.named_modules(prefix=name):
                if isinstance(conv, nn.Conv2d) and conv.in_channels == 12:
                    yield inner, conv
