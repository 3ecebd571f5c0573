"""Adaptation of weights to the images that another model reads."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mmcrosscl.errors import InputError

from .first_conv import FirstConv, first_conv_of_model, first_conv_of_weights
from .normalization import IMAGENET, InputFormat, close, numbers, same
from .preprocessing import model_input_format, style_of


@dataclass(frozen=True)
class Adaptation:
    """Weights of a first convolution for another input format.

    Attributes:
        weights: Maps the names of the changed weights to their new tensors.
        input_format: Format of the images that the weights are now for.
        notes: A sentence about what was changed, or nothing.
        warnings: A sentence about the difference that remains, or nothing.
    """

    weights: dict[str, Tensor]
    input_format: InputFormat
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def adapt_to_torchvision(weights: Mapping[str, Tensor], source: InputFormat) -> Adaptation:
    """Adapt weights to torchvision's input format, for files that cannot store another one.

    Args:
        weights (Mapping[str, Tensor]): Maps each CrossCL name to its tensor.
        source (InputFormat): Format of the images that the weights were trained with.

    Raises:
        InputError: If the strides are placed as in Caffe, or the first convolution is not certain.
    """
    if source.style == 'caffe':
        raise InputError(
            "the strides are in the 1×1 convolutions (style='caffe'), which a file of torchvision, "
            'timm or safetensors cannot represent; convert it to mmdet or detectron2 in a .pth file'
        )
    if same(source, IMAGENET):
        return Adaptation({}, source)
    if (conv := first_conv_of_weights(weights)) is None:
        raise InputError(
            f"the weights are for {source.describe()} instead of torchvision's, and their first "
            'convolution is not certain; write a .pth file, which stores the input format'
        )
    result = adapt(weights, conv, source, IMAGENET, "torchvision's")
    if close(result.input_format.mean, IMAGENET.mean):
        return result
    remaining = (
        f"The file is for {result.input_format.describe()}, which differs from torchvision's mean; "
        'normalize images with these values.'
    )
    return replace(result, warnings=(remaining,))


def adapt_to_model(
    weights: Mapping[str, Tensor], model: nn.Module, source: InputFormat
) -> Adaptation:
    """Adapt weights to the images that a model reads.

    Args:
        weights (Mapping[str, Tensor]): Maps names of the model to tensors.
        model (nn.Module): The model, with a ``backbone``.
        source (InputFormat): Format of the images that the weights were trained with.

    Raises:
        InputError: If the strides of the model are placed differently, or the first convolution is
            not certain although the formats differ.
    """
    backbone = model.get_submodule('backbone')
    style = style_of(backbone)
    if source.style and style and source.style != style:
        places = {'pytorch': '3×3', 'caffe': 'first 1×1'}
        raise InputError(
            f'the checkpoint has its strides in the {places[source.style]} convolutions of the '
            f'bottlenecks, and the model in the {places[style]} convolutions; set '
            f"model.backbone.style='{source.style}'"
        )
    target = model_input_format(model)
    if target is None:
        unknown = (
            f'The checkpoint is for {source.describe()}, and the data_preprocessor of the model '
            'does not define a normalization.'
        )
        return Adaptation({}, source, warnings=(unknown,))
    if same(source, target):
        return Adaptation({}, source)
    wanted = source.reordered(target.channel_order)
    settings = (
        f'set model.data_preprocessor.mean={numbers(wanted.mean)} and '
        f'model.data_preprocessor.std={numbers(wanted.std)}'
    )
    if (conv := first_conv_of_model(backbone)) is None:
        raise InputError(
            f'the checkpoint is for {source.describe()}, the model reads {target.describe()}, and '
            'the first convolution of the backbone, which would be adapted, is not certain; set '
            'model.data_preprocessor to the values of the checkpoint'
        )
    result = adapt(weights, conv, source, target, "the model's")
    if same(result.input_format, target):
        return result
    remaining = (
        f'The model reads {target.describe()}, which {conv.name} cannot be adapted to exactly; '
        f'{settings}, as in pre-training.'
    )
    return replace(result, warnings=(remaining,))


def adapt(
    state: Mapping[str, Tensor],
    conv: FirstConv,
    source: InputFormat,
    target: InputFormat,
    owner: str,
) -> Adaptation:
    """Adapt the first convolution, also that of a key encoder, to images in another format.

    For another channel order, the input channels are permuted. For another standard deviation, they
    are scaled. Both are exact, because zero padding stands for the mean in both formats. For
    another mean, the bias is shifted if the convolution has a bias and no padding. Otherwise, the
    difference remains.

    Args:
        state (Mapping[str, Tensor]): State dict, which is not modified. The weight of the
            convolution is (C, 3·P, H, W): P groups of the channels of the image, where P = 4 for
            the Focus layer of YOLOX and 1 for other layers.
        conv (FirstConv): The convolution.
        source (InputFormat): Format of the images that the weights were trained with.
        target (InputFormat): Format of the images that the adapted weights are for.
        owner (str): Whose format ``target`` is, for the note.

    Returns:
        Adaptation: The changed weights. If a difference remains, their ``input_format`` differs
        from ``target``.
    """
    reordered = source.reordered(target.channel_order)
    convs = [name for name in (conv.name, f'key_encoder.{conv.name}') if f'{name}.weight' in state]
    shifts = conv.rescalable and not conv.padded and f'{conv.name}.bias' in state
    reached = replace(
        reordered,
        # values that are equal up to rounding do not change the weights
        mean=target.mean if shifts and not close(reordered.mean, target.mean) else reordered.mean,
        std=target.std
        if conv.rescalable and not close(reordered.std, target.std)
        else reordered.std,
    )
    changes = [
        change
        for change, needed in (
            ('permuted input channels', source.channel_order != target.channel_order),
            ('scaled weights', reached.std != reordered.std),
            ('a shifted bias', reached.mean != reordered.mean),
        )
        if needed
    ]
    if not changes:
        return Adaptation({}, reached)
    changed = {}
    for name in convs:
        old = state[f'{name}.weight']
        value = old.double().unflatten(1, (-1, 3))
        if source.channel_order != target.channel_order:
            value = value.flip(2)
        if shifts:
            shift = zip(reordered.mean, reached.mean, reordered.std)
            added = value * _per_channel([(new - old) / std for old, new, std in shift], value)
            bias = state[f'{name}.bias']
            changed[f'{name}.bias'] = (bias + added.flatten(1).sum(1)).to(bias.dtype)
        scale = [new / old for old, new in zip(reordered.std, reached.std)]
        value = value * _per_channel(scale, value)
        changed[f'{name}.weight'] = value.flatten(1, 2).to(old.dtype)
    note = f'{conv.name} is adapted to {owner} {reached.describe()}: {" and ".join(changes)}.'
    return Adaptation(changed, reached, (note,))


def _per_channel(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(3, 1, 1)
