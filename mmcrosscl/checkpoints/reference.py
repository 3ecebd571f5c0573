"""Checkpoints of the authors' released implementation."""

import torch
from torch import Tensor
from torchvision.models import resnet

from mmcrosscl.errors import InputError

DEPTHS = ('resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152')
# conv of the reference: conv of ours, whose number is the place in MMDetection's FPN over C2–C5
PYRAMID = {
    'fpn_lateral5': 'lateral_convs.3',
    'fpn_lateral4': 'lateral_convs.2',
    'fpn_lateral3': 'lateral_convs.1',
    'fpn_output4': 'fpn_convs.2',
    'fpn_output3': 'fpn_convs.1',
}
PROJECTION = {'fc.0': 'projection.mlp.0', 'fc.2': 'projection.mlp.2'}
AFFINE = ('weight', 'bias')
BATCH_NORM = (*AFFINE, 'running_mean', 'running_var', 'num_batches_tracked')


def from_reference(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the reference's state dict into that of :class:`~mmcrosscl.models.CrossCL`.

    Both encoders, the queue and its pointer come over, with or without norm in the pyramid, so
    that training goes on where the reference left it.

    Args:
        state_dict (dict[str, Tensor]): The ``state_dict`` entry of a reference checkpoint: names
            such as ``module.encoder_q.conv1.weight``; ``module.`` may be missing.

    Returns:
        dict[str, Tensor]: Loads strictly into a ``CrossCL`` of the same ResNet. Tensors are shared
        with the input, except for the queue, which is transposed.

    Raises:
        InputError: If names are unknown or missing; lists them.
    """
    given = {name.removeprefix('module.'): value for name, value in state_dict.items()}
    table = _names(given)
    if unknown := sorted(given.keys() - table.keys()):
        raise InputError(_complaint('unknown', unknown))
    if missing := sorted(table.keys() - given.keys()):
        raise InputError(_complaint('missing', missing))
    converted = {ours: given[theirs] for theirs, ours in table.items()}
    converted['queue.keys'] = converted['queue.keys'].T.contiguous()
    converted['queue.pointer'] = converted['queue.pointer'].reshape(())
    # not zero: the key encoder has a state of its own, which the first update must not replace
    converted['key_encoder.steps'] = torch.ones((), dtype=torch.long)
    return converted


def _names(given: dict[str, Tensor]) -> dict[str, str]:
    """All names that a state dict like this must have, theirs to ours."""
    encoder = {name: f'backbone.{name}' for name in _backbone_names(given)}
    for theirs, ours in PROJECTION.items():
        encoder |= {f'{theirs}.{field}': f'neck.{ours}.{field}' for field in AFFINE}
    with_norm = 'encoder_q.fpn_lateral5.0.weight' in given
    for theirs, ours in PYRAMID.items():
        if with_norm:
            encoder[f'{theirs}.0.weight'] = f'neck.{ours}.conv.weight'
            encoder |= {f'{theirs}.1.{field}': f'neck.{ours}.bn.{field}' for field in BATCH_NORM}
        else:
            encoder |= {f'{theirs}.{field}': f'neck.{ours}.conv.{field}' for field in AFFINE}
    return {
        **{f'encoder_q.{theirs}': ours for theirs, ours in encoder.items()},
        **{f'encoder_k.{theirs}': f'key_encoder.{ours}' for theirs, ours in encoder.items()},
        'queue': 'queue.keys',
        'queue_ptr': 'queue.pointer',
    }


def _backbone_names(given: dict[str, Tensor]) -> set[str]:
    """Names in the ResNet that is nearest to the given one."""
    present = {name.removeprefix('encoder_q.') for name in given if name.startswith('encoder_q.')}
    candidates = []
    for depth in DEPTHS:
        with torch.device('meta'):
            names = getattr(resnet, depth)().state_dict().keys()
        candidates.append({name for name in names if not name.startswith('fc.')})
    return min(candidates, key=lambda names: len(names ^ present))


def _complaint(kind: str, names: list[str]) -> str:
    return (
        f'not a CrossCL checkpoint of the reference: {len(names)} {kind} '
        f'{"name" if len(names) == 1 else "names"}: {", ".join(names)}; give the "state_dict" of '
        'one'
    )
