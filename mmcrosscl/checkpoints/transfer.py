"""Conversion of checkpoints for the detector or classifier that loads them."""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from mmcrosscl.errors import InputError

from .adaptation import adapt_to_model
from .conversion import Conversion
from .convert import convert_source
from .formats import PYRAMID, Skipped
from .identify import identify
from .validate import few

SHARED_HEAD = 'roi_head.shared_head.'


def convert_for_model(checkpoint: Mapping, model: nn.Module) -> Conversion:
    """Convert a checkpoint to the names and the input format of a model.

    The model is one of MMDetection or MMPretrain, or a CrossCL. The result contains the backbone
    stages and the weights of the neck that the model also has:

    - Levels of a pyramid are numbered as in the model's ``FPN``, from C2 or from C3.
    - Weights of a detector's neck, such as a ``CSPNeXtPAFPN``, keep their names. In a CrossCL whose
      neck contains a detector's neck, they are below ``neck.detector.``.

    If the RoI head contains the last stage of the backbone, as in a C4 detector, the last stage of
    the checkpoint is renamed to match. If the model reads images in another format than the
    checkpoint, the first convolution is adapted; see :func:`adapt`.

    Args:
        checkpoint (Mapping): Contents of a file of a project that :func:`identify` supports.
        model (nn.Module): Model with a ``backbone`` and optionally a ``neck``. It is not modified.

    Returns:
        Conversion: The converted checkpoint. For every tensor in its ``state_dict``, the model has
        a tensor of the same name and shape.

    Raises:
        InputError: If the backbones, their strides or the necks differ, a level of the pyramid does
            not fit the model, or the input format cannot be adapted.
    """
    wanted = model.state_dict()
    source = identify(checkpoint)
    neck = getattr(model, 'neck', None)
    head = 'neck.detector.' if hasattr(neck, 'detector') else 'neck.'
    own_neck = {
        f'neck.{name.removeprefix(head)}': value
        for name, value in wanted.items()
        if name.startswith(head)
    }
    same_neck = _fits(source.neck_weights, own_neck)
    wrapped = any(name.startswith('neck.detector.') for name in source.weights)
    if wrapped and own_neck and not same_neck:
        raise InputError(
            'the neck of the checkpoint differs from that of the model, as their weights have '
            f'other names or shapes, such as {few(source.neck_weights, 1)} and {few(own_neck, 1)}; '
            'set the neck of the model to that of the checkpoint, or load only the backbone, '
            'converted with `--to mmdet-backbone`'
        )
    start_level = getattr(getattr(neck, 'detector', neck), 'start_level', 0)
    result = convert_source(source, 'mmdet', 0 if wrapped else start_level)
    converted, origins, skipped = dict(result.state_dict), result.origin, dict(result.skipped)
    if same_neck:
        # this includes the levels coarser than P5, and the necks other than an FPN
        converted = {n: value for n, value in converted.items() if not n.startswith('neck.')}
        converted |= source.neck_weights
        origins = origins | source.neck
        skipped = {n: why for n, why in skipped.items() if n not in source.neck.values()}
    state, origin = {}, {}
    for name, value in converted.items():
        original = origins.get(name, name)
        target = re.sub(r'^backbone\.(?=layer4\.)', SHARED_HEAD, name)
        target = target if target in wanted else re.sub(r'^neck\.', head, name)
        if target in wanted or name.startswith('backbone.') and not _absent(name, wanted):
            state[target], origin[target] = value, original
        elif match := re.match(rf'{PYRAMID}\d', name):
            if any(other.startswith(f'{match.group()}.') for other in own_neck):
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
    adaptation = adapt_to_model(state, model, source.input_format)
    return replace(
        result,
        state_dict=state | adaptation.weights,
        origin=origin,
        skipped=skipped,
        input_format=adaptation.input_format,
        notes=adaptation.notes,
        warnings=adaptation.warnings,
    )


def fitting_names(checkpoint: Mapping, model: nn.Module) -> set[str]:
    """Return the names of the weights of a model that MMEngine loads from a checkpoint.

    MMEngine loads each tensor whose name and shape are those of a tensor of the model.

    Args:
        checkpoint (Mapping): Contents of a file.
        model (nn.Module): The model. It is not modified.
    """
    state = checkpoint.get('state_dict', checkpoint)
    given = {re.sub(r'^module\.', '', str(name)): value for name, value in state.items()}
    shapes = {name: getattr(value, 'shape', None) for name, value in given.items()}
    return {name for name, value in model.state_dict().items() if shapes.get(name) == value.shape}


def _fits(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Return whether one neck has all weights of the other, with equal shapes."""
    common = given.keys() & own.keys()
    return (
        bool(common)
        and common in (given.keys(), own.keys())
        and all(given[name].shape == own[name].shape for name in common)
    )


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
