"""Conversion of checkpoints for the detector or classifier that will load them."""

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

    All weights of the backbone are kept, and those of the pyramid levels that the model's ``FPN``
    has too, numbered from C2 or from C3. If the RoI head holds the last stage, as in a C4 detector,
    the last stage of the checkpoint is renamed to match.

    Args:
        checkpoint (Mapping): Contents of the file, of a project that :func:`identify` knows.
        model (nn.Module): Has a ``backbone`` and may have a ``neck``. It is not modified.

    Returns:
        Conversion: Every name of its state dict is in the model, with the same shape.

    Raises:
        InputError: If the backbones differ, or a level of the pyramid does not fit.
    """
    wanted = model.state_dict()
    start_level = getattr(getattr(model, 'neck', None), 'start_level', 0)
    result = convert(checkpoint, 'mmdet', start_level)
    state, origin, skipped = {}, {}, dict(result.skipped)
    for name, value in result.state_dict.items():
        original = result.origin.get(name, name)
        place = re.sub(r'^backbone\.(?=layer4\.)', SHARED_HEAD, name)
        place = place if place in wanted else name
        if place in wanted or name.startswith('backbone.') and not _absent(name, wanted):
            state[place], origin[place] = value, original
        elif match := re.match(rf'{PYRAMID}\d', name):
            if any(other.startswith(f'{match.group()}.') for other in wanted):
                raise InputError(
                    f'{name} of the checkpoint is not in the model: the norms of the pyramids '
                    "differ; set the model's neck.norm_cfg to that of the pre-training"
                )
            skipped[original] = Skipped('a level that the model does not have')
        else:
            skipped[original] = Skipped('not in the model')
    _check_backbone(state, wanted)
    wrong = [
        f'{name} is {tuple(value.shape)} and {tuple(wanted[name].shape)} in the model'
        for name, value in state.items()
        if value.shape != wanted[name].shape
    ]
    if wrong:
        raise InputError(
            f'{len(wrong)} of the checkpoint do not fit the model: {few(wrong)}; set the model to '
            'the widths of the pre-training'
        )
    return replace(result, state_dict=state, origin=origin, skipped=skipped)


def _absent(name: str, wanted: Mapping) -> bool:
    """Return whether the model lacks the stage that a backbone weight belongs to."""
    stage = re.match(r'backbone\.[^.]+\.', name)
    return stage is not None and not any(other.startswith(stage.group()) for other in wanted)


def _check_backbone(state: Mapping, wanted: Mapping) -> None:
    """Raise unless the state dict has exactly the backbone of the model."""
    stages = ('backbone.', f'{SHARED_HEAD}layer4.')
    if not any(name.startswith(stages) for name in wanted):
        raise InputError(
            'the model has no backbone that could start from the checkpoint; its weights must be '
            'called backbone.…'
        )
    missing = [name for name in wanted if name.startswith(stages) and name not in state]
    extra = [name for name in state if name not in wanted]
    for what, names in (('not in the checkpoint', missing), ('not in the model', extra)):
        if names:
            raise InputError(
                f'the backbones differ, {len(names)} of the weights are {what}: {few(names)}; set '
                "the model's backbone to that of the pre-training"
            )
