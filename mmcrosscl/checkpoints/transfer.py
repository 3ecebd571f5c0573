"""Conversion of checkpoints for the detector or classifier that loads them."""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from mmcrosscl.errors import InputError

from .convert import Conversion, convert
from .formats import PYRAMID, Skipped
from .validate import few

SHARED_HEAD = 'roi_head.shared_head.'


def convert_for_model(checkpoint: Mapping, model: nn.Module) -> Conversion:
    """Convert a checkpoint to the names of a model of MMDetection or MMPretrain.

    The result contains the backbone stages and the pyramid levels that the model also has. Pyramid
    levels are numbered as in the model's ``FPN``, from C2 or from C3. If the RoI head contains the
    last stage of the backbone, as in a C4 detector, the last stage of the checkpoint is renamed to
    match.

    Args:
        checkpoint (Mapping): Contents of a file of a project that :func:`identify` supports.
        model (nn.Module): Model with a ``backbone`` and optionally a ``neck``. It is not modified.

    Returns:
        Conversion: The converted checkpoint. For every tensor in its ``state_dict``, the model has
        a tensor of the same name and shape.

    Raises:
        InputError: If the backbones differ, or a level of the pyramid does not fit the model.
    """
    wanted = model.state_dict()
    start_level = getattr(getattr(model, 'neck', None), 'start_level', 0)
    result = convert(checkpoint, 'mmdet', start_level)
    state, origin, skipped = {}, {}, dict(result.skipped)
    for name, value in result.state_dict.items():
        original = result.origin.get(name, name)
        target = re.sub(r'^backbone\.(?=layer4\.)', SHARED_HEAD, name)
        target = target if target in wanted else name
        if target in wanted or name.startswith('backbone.') and not _absent(name, wanted):
            state[target], origin[target] = value, original
        elif match := re.match(rf'{PYRAMID}\d', name):
            if any(other.startswith(f'{match.group()}.') for other in wanted):
                raise InputError(
                    f'{name} of the checkpoint is not in the model, because the norm layers of the '
                    "pyramids differ; set the model's neck.norm_cfg to that of pre-training"
                )
            skipped[original] = Skipped('a level that the model does not have')
        else:
            skipped[original] = Skipped('not in the model')
    _check_backbone(state, wanted)
    wrong = [
        f'{name} is {tuple(value.shape)}, but {tuple(wanted[name].shape)} in the model'
        for name, value in state.items()
        if value.shape != wanted[name].shape
    ]
    if wrong:
        raise InputError(
            f'the weights of the checkpoint do not fit the model: {few(wrong)}; set the widths of '
            'the model to those of pre-training'
        )
    return replace(result, state_dict=state, origin=origin, skipped=skipped)


def _absent(name: str, wanted: Mapping) -> bool:
    """Return whether the model lacks the stage that a backbone weight belongs to."""
    stage = re.match(r'backbone\.[^.]+\.', name)
    return stage is not None and not any(other.startswith(stage.group()) for other in wanted)


def _check_backbone(state: Mapping, wanted: Mapping) -> None:
    """Raise an error unless the state dict has exactly the backbone weights of the model."""
    stages = ('backbone.', f'{SHARED_HEAD}layer4.')
    if not any(name.startswith(stages) for name in wanted):
        raise InputError(
            'the model has no backbone that the checkpoint could initialize; name its backbone '
            'module `backbone`'
        )
    missing = [name for name in wanted if name.startswith(stages) and name not in state]
    extra = [name for name in state if name not in wanted]
    for which, names in (('checkpoint', missing), ('model', extra)):
        if names:
            raise InputError(
                f'the backbones differ, because the {which} lacks {few(names)}; set the backbone '
                'of the model to that of pre-training'
            )
