"""Checks that weights form a complete ResNet, pyramid, projection and key encoder."""

import re
from collections.abc import Iterable, Mapping
from functools import cache

import torch
from torch import Tensor
from torchvision.models import resnet

from mmcrosscl.errors import InputError

from .formats import PYRAMID

DEPTHS = ('resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152')
PROJECTION = 'neck.projection.mlp'
Shapes = dict[str, tuple[int, ...]]


def validate_weights(weights: dict[str, Tensor]) -> None:
    """Raise an error if a weight is missing, has an unknown name or has the wrong shape.

    The backbone must be a ResNet-18, -34, -50, -101 or -152. Pyramid, projection, key encoder and
    queue are optional, but each must be complete if it is present. Counters that frozen batch norms
    lack are added as zeros.

    Args:
        weights (dict[str, Tensor]): Maps each CrossCL name to its tensor. Missing counters are
            added in place.

    Raises:
        InputError: If a weight is not as expected. The message names the weight.
    """
    expected = _resnet(weights)
    width = expected['backbone.layer4.0.downsample.1.weight'][0]
    expected |= _pyramid(weights, width) | _projection(weights, width)
    # a key encoder without a pyramid belongs to another method and is not checked
    if any(name.startswith('key_encoder.') for name in weights) and _pyramid(weights, width):
        expected |= {f'key_encoder.{name}': shape for name, shape in expected.items()}
        expected |= {'key_encoder.steps': (), 'queue.pointer': ()}
        dim = expected.get(f'{PROJECTION}.2.bias', (0,))[0]
        expected['queue.keys'] = (_rows(weights, 'queue.keys'), dim)
        if 'key_encoder.steps' not in weights:
            # with 0 steps, the first update would replace the key encoder with the query encoder
            weights['key_encoder.steps'] = torch.ones((), dtype=torch.long)
    unchecked = ('key_encoder.', 'queue.')
    unknown = [n for n in weights if n not in expected and not n.startswith(unchecked)]
    for name in expected:
        if name.endswith('num_batches_tracked') and name not in weights:
            weights[name] = torch.zeros((), dtype=torch.long)
    missing = expected.keys() - weights.keys()
    for what, names in (('missing', missing), ('unknown', unknown)):
        if names:
            raise InputError(
                f'{len(names)} {what} {"name" if len(names) == 1 else "names"}: {few(names)}; pass '
                'a complete checkpoint with a ResNet-18 to -152'
            )
    wrong = [
        f'{name} is {tuple(weights[name].shape)}, not {shape}'
        for name, shape in expected.items()
        if tuple(weights[name].shape) != shape
    ]
    if wrong:
        raise InputError(
            f'weights have the wrong shape: {few(wrong)}; pass a checkpoint with a ResNet-18 to '
            '-152, and with a pyramid and projection that match its widths'
        )


def resnet_depth(weights: Mapping[str, Tensor]) -> int | None:
    """Return the depth of the ResNet that the backbone weights form, or None for other backbones.

    Counters of batch norms may be missing.

    Args:
        weights (Mapping[str, Tensor]): Maps each CrossCL name to its tensor.
    """
    given = _backbone(weights)
    for depth in DEPTHS:
        if _without_counters(_shapes(depth)) == given:
            return int(depth.removeprefix('resnet'))
    return None


def is_partial_resnet(weights: Mapping[str, Tensor]) -> bool:
    """Return whether the backbone weights are some of a ResNet's weights, but not all of them."""
    given = _backbone(weights).keys()
    names = [_without_counters(_shapes(depth)).keys() for depth in DEPTHS]
    return any(given < of_depth for of_depth in names) and given not in names


def few(names: Iterable[str], count: int = 5) -> str:
    """Format the first ``count`` names in sorted order, and the number of remaining names."""
    names = sorted(names)
    more = f' and {len(names) - count} more' if len(names) > count else ''
    return ', '.join(names[:count]) + more


def _resnet(weights: dict[str, Tensor]) -> Shapes:
    """Return names and shapes of the ResNet whose names differ least from those in ``weights``."""
    given = {name for name in weights if name.startswith('backbone.')}
    nearest = min(DEPTHS, key=lambda depth: len(_shapes(depth).keys() ^ given))
    return dict(_shapes(nearest))


def _backbone(weights: Mapping[str, Tensor]) -> Shapes:
    shapes = {n: tuple(x.shape) for n, x in weights.items() if n.startswith('backbone.')}
    return _without_counters(shapes)


def _without_counters(shapes: Shapes) -> Shapes:
    return {n: shape for n, shape in shapes.items() if not n.endswith('num_batches_tracked')}


@cache
def _shapes(depth: str) -> Shapes:
    """Return names and shapes of a ResNet of torchvision without its classifier."""
    with torch.device('meta'):
        state = getattr(resnet, depth)().state_dict()
    return {
        f'backbone.{name}': tuple(value.shape)
        for name, value in state.items()
        if not name.startswith('fc.')
    }


def _pyramid(weights: dict[str, Tensor], width: int) -> Shapes:
    convs = {match.group() for n in weights if (match := re.match(rf'{PYRAMID}\d', n))}
    out = max((_rows(weights, f'{conv}.conv.weight') for conv in convs), default=0)
    shapes: Shapes = {}
    for conv in sorted(convs):
        if 'lateral' in conv:
            shapes[f'{conv}.conv.weight'] = (out, width // 2 ** (3 - int(conv[-1])), 1, 1)
        else:
            shapes[f'{conv}.conv.weight'] = (out, out, 3, 3)
        if f'{conv}.bn.weight' in weights:
            fields = ('weight', 'bias', 'running_mean', 'running_var')
            shapes |= {f'{conv}.bn.{field}': (out,) for field in fields}
            shapes[f'{conv}.bn.num_batches_tracked'] = ()
        else:
            shapes[f'{conv}.conv.bias'] = (out,)
    return shapes


def _projection(weights: dict[str, Tensor], width: int) -> Shapes:
    if not any(name.startswith(PROJECTION) for name in weights):
        return {}
    hidden, dim = (_rows(weights, f'{PROJECTION}.{layer}.bias') for layer in (0, 2))
    return {
        f'{PROJECTION}.0.weight': (hidden, width),
        f'{PROJECTION}.0.bias': (hidden,),
        f'{PROJECTION}.2.weight': (dim, hidden),
        f'{PROJECTION}.2.bias': (dim,),
    }


def _rows(weights: dict[str, Tensor], name: str) -> int:
    return next(iter(weights[name].shape), 0) if name in weights else 0
