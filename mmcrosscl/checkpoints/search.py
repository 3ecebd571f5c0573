"""Search for a ResNet in the checkpoint of any project."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mmcrosscl.errors import InputError

from .formats import COARSE, RESNET, Skipped
from .validate import few, is_partial_resnet, resnet_depth, validate_weights

# position of each layer in the nn.Sequential of the children of a torchvision ResNet
SEQUENTIAL = {'0': 'conv1', '1': 'bn1', '4': 'layer1', '5': 'layer2', '6': 'layer3', '7': 'layer4'}
# names of an encoder that follows the trained encoder as a moving average
COPY = re.compile(r'(?:^|[._])(?:momentum|key|target|teacher|ema|k|m)(?=[._])')
# other backbones have some names of a ResNet too, but not both of these
FIRST_AND_LAST = {'backbone.conv1.weight', 'backbone.layer4.0.conv1.weight'}

Targets = dict[str, str | Skipped]


def find_resnet(state: Mapping[str, Tensor], prefix: str = '') -> tuple[str, Targets] | None:
    """Find the ResNet in a state dict, and an FPN next to it.

    The names of the ResNet's weights are those of torchvision, or those of an ``nn.Sequential`` of
    its children, below any prefix. FPN weights have the names of MMDetection or Detectron2, below
    the prefix or its parent.

    If there are several ResNets:

    - A teacher is preferred to its student, because DINO evaluates the teacher.
    - Otherwise, the trained encoder is preferred to its moving average: the momentum, key or target
      encoder.
    - Of ResNets with equal weights, the first is used.

    Args:
        state (Mapping[str, Tensor]): Maps each name to its tensor.
        prefix (str): Only names that begin with the prefix are used. Defaults to '' (all names).

    Returns:
        tuple[str, Targets], optional: A human-readable description, and the CrossCL name or the
        reason to skip the weight for every name. None if there is no ResNet.

    Raises:
        InputError: If no ResNet is complete, or there are several.
    """
    below = {name: value for name, value in state.items() if name.startswith(prefix)}
    found, partial = {}, {}
    for start in _prefixes(below):
        targets = _targets(below, start)
        weights = {target: below[name] for name, target in targets.items()}
        if resnet_depth(weights):
            found[start] = weights
        elif FIRST_AND_LAST <= weights.keys() and is_partial_resnet(weights):
            partial[start] = weights
    if not found:
        for weights in partial.values():
            # the error names the missing weights
            validate_weights(weights)
        return None
    start = _choose(found)
    own = _targets(below, start) | _pyramid(below, start)
    targets = {name: own.get(name) or _reason(name, start, found) for name in state}
    place = f' in {start.rstrip(".")}' if start else ''
    return f'ResNet-{resnet_depth(found[start])}{place}', targets


def _prefixes(state: Mapping[str, Tensor]) -> list[str]:
    """Return the prefixes below which there may be a ResNet."""
    matches = (re.fullmatch(r'(|.+\.)(?:layer1|4)\.0\.conv1\.weight', name) for name in state)
    return list(dict.fromkeys(match[1] for match in matches if match))


def _targets(state: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    """Map the names of the ResNet's weights below a prefix to CrossCL's names."""
    targets = {}
    for name in state:
        if name.startswith(prefix):
            layer, _, rest = name.removeprefix(prefix).partition('.')
            inner = f'{SEQUENTIAL.get(layer, layer)}.{rest}'
            if re.fullmatch(RESNET, inner):
                targets[name] = f'backbone.{inner}'
    return targets


def _pyramid(state: Mapping[str, Tensor], prefix: str) -> Targets:
    """Map the names of an FPN's weights next to the ResNet to CrossCL's names."""
    parent = re.sub(r'[^.]+\.$', '', prefix)
    start = rf'(?:{re.escape(prefix)}|{re.escape(parent)})(?:neck\.|fpn\.)?'
    targets = {}
    for name in state:
        if match := re.fullmatch(rf'{start}(lateral|fpn)_convs\.(\d)\.((?:conv|bn)\..+)', name):
            conv, level, rest = match.groups()
            target = f'neck.{conv}_convs.{level}.{rest}'
            targets[name] = target if int(level) < 4 else COARSE
        elif match := re.fullmatch(rf'{start}fpn_(lateral|output)([2-5])\.(norm\.)?(\w+)', name):
            conv, stage, norm, field = match.groups()
            conv = 'lateral' if conv == 'lateral' else 'fpn'
            layer = 'bn' if norm else 'conv'
            targets[name] = f'neck.{conv}_convs.{int(stage) - 2}.{layer}.{field}'
    return targets


def _choose(found: Mapping[str, Mapping[str, Tensor]]) -> str:
    teachers = [
        start
        for start in found
        if 'teacher' in start and start.replace('teacher', 'student') in found
    ]
    chosen = teachers or [start for start in found if not COPY.search(start)] or list(found)
    first, *others = chosen
    different = [start for start in others if not _equal(found[first], found[start])]
    if different:
        raise InputError(
            f'the checkpoint has several ResNets, below the prefixes {few([first, *different])}; '
            'choose one with `mmcrosscl convert --prefix`'
        )
    return first


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def _reason(name: str, start: str, found: Mapping[str, Mapping[str, Tensor]]) -> Skipped:
    for other in found:
        if other != start and other and name.startswith(other):
            return Skipped(f'part of another encoder; --prefix {other} selects it')
    return Skipped('not part of the ResNet')
