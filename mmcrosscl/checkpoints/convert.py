"""Conversion of checkpoints between the formats of different projects."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mmcrosscl.errors import InputError
from mmcrosscl.progress import progress_bar

from .adaptation import adapt_to_torchvision
from .conversion import FLAT, Conversion
from .formats import PYRAMID, Skipped, to_detectron2
from .identify import Source, identify
from .normalization import InputFormat
from .reading import read_checkpoint
from .validate import is_partial_resnet, resnet_depth, validate_weights
from .writing import write_checkpoint

TARGETS = ('crosscl', 'mmdet', 'mmdet-backbone', 'detectron2', 'torchvision', 'timm')


def convert(
    checkpoint: Mapping,
    to: str,
    start_level: int = 0,
    raw: bool = False,
    prefix: str | None = None,
    flat: bool = False,
) -> Conversion:
    """Convert a checkpoint of any project that :func:`identify` supports.

    Args:
        checkpoint (Mapping): Contents of the file; see :func:`read_checkpoint`.
        to (str): Target format:

            - 'crosscl': for further pre-training. The key encoder and the queue are included if
              the checkpoint contains a complete CrossCL.
            - 'mmdet': backbone and FPN, or the neck of a detector.
            - 'mmdet-backbone': backbone only.
            - 'detectron2': backbone and FPN, for ``DetectionCheckpointer``.
            - 'torchvision', 'timm': ResNet without its classifier.
        start_level (int): ``start_level`` of the MMDetection ``FPN`` that loads the result. Use 0
            for C2 to C5, as in Mask R-CNN, and 1 for C3 to C5, as in RetinaNet and FCOS. Defaults
            to 0.
        raw (bool): Convert the weights before averaging instead of the averaged weights. Requires
            an averaged checkpoint. Defaults to False.

    Returns:
        Conversion: The converted checkpoint. See :class:`Source` for the tensors that it shares
        with ``checkpoint``.

    Raises:
        InputError: If the checkpoint is unknown or incomplete, the target is unknown or cannot
            represent the checkpoint, or ``start_level`` or ``raw`` does not apply.
    """
    if to not in TARGETS:
        raise InputError(f'unknown target {to!r}; choose one of {", ".join(TARGETS)}')
    if start_level and to != 'mmdet':
        raise InputError(f'--start-level applies only to the target mmdet; omit it for {to}')
    return convert_source(identify(checkpoint, raw, prefix), to, start_level, flat or to in FLAT)


def convert_source(source: Source, to: str, start_level: int = 0, flat: bool = False) -> Conversion:
    """Convert an identified checkpoint; see :func:`convert` for the arguments and the result.

    Args:
        source (Source): The identified checkpoint.
        to (str): Target format.
        start_level (int): Defaults to 0.
        flat (bool): Defaults to False.

    Raises:
        InputError: If the target cannot represent the checkpoint, or ``start_level`` does not
            apply.
    """
    weights, input_format = source.weights, source.input_format
    wrapped = any(name.startswith('neck.detector.') for name in weights)
    if start_level and wrapped:
        raise InputError(
            "--start-level applies only to an FPN, and the checkpoint has a detector's neck; omit "
            '--start-level'
        )
    if not to.startswith(('crosscl', 'mmdet')):
        weights = weights | _complete_resnet(weights, to)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    if flat:
        adaptation = adapt_to_torchvision(weights, input_format)
        weights = weights | adaptation.weights
        input_format = adaptation.input_format
        notes, warnings = adaptation.notes, adaptation.warnings
    complete = 'key_encoder.steps' in weights
    skipped: dict[str, str] = dict(source.skipped)
    state, origin = {}, {}
    for name, value in weights.items():
        target = _target(name, to, start_level, complete)
        # counters that the checkpoint lacks have no original name
        original = source.origin.get(name)
        if isinstance(target, Skipped):
            if original:
                skipped[original] = target
            continue
        state[target] = value
        if original:
            origin[target] = original
    return Conversion(source.kind, to, state, origin, skipped, input_format, notes, warnings)


def convert_file(
    src: str | Path,
    dst: str | Path,
    to: str,
    start_level: int = 0,
    raw: bool = False,
    replace: bool = False,
    trust: bool = False,
    prefix: str | None = None,
) -> str:
    """Convert a checkpoint file; see :func:`convert` for the conversion.

    Args:
        src (str | Path): File to read.
        dst (str | Path): File to write atomically. A name that ends in .safetensors selects the
            safetensors format.
        to (str): Target format.
        start_level (int): Defaults to 0.
        raw (bool): Defaults to False.
        replace (bool): Replace ``dst`` if it exists. Defaults to False.
        trust (bool): Unpickle all objects in ``src``, which runs any code in the file. Defaults to
            False.
        prefix (str, optional): Defaults to None.

    Returns:
        str: A human-readable report with the detected format, the table of weights, the changes for
        another input format, and the settings that the target requires.

    Raises:
        InputError: If ``dst`` exists or cannot be written, or ``src`` cannot be read or converted.
    """
    dst = Path(dst)
    if dst.exists() and not replace:
        raise InputError(f'{dst} exists; pass --force to replace it')
    with progress_bar(f'Reading {src}', total=3, unit='steps') as bar:
        checkpoint = read_checkpoint(src, trust)
        bar.update(1, 'Converting')
        flat = dst.suffix == '.safetensors'
        conversion = convert(checkpoint, to, start_level, raw, prefix, flat)
        bar.update(2, f'Writing {dst}')
        write_checkpoint(conversion.state_dict if flat else conversion.contents(), dst)
    lines = [f'{src}: {conversion.kind}', '', conversion.table(), '', f'wrote {dst}']
    lines += [*conversion.notes, *conversion.warnings]
    if to == 'detectron2':
        lines.append(_detectron2_settings(conversion.input_format))
    return '\n'.join(lines)


def _complete_resnet(weights: Mapping[str, Tensor], to: str) -> dict[str, Tensor]:
    """Return the weights of the backbone with all counters, or raise an error."""
    backbone = {name: value for name, value in weights.items() if name.startswith('backbone.')}
    if resnet_depth(backbone) is None and not is_partial_resnet(backbone):
        raise InputError(f'the backbone is not a ResNet, which {to} requires; convert it to mmdet')
    validate_weights(backbone)
    return backbone


def _target(name: str, to: str, start_level: int, complete: bool) -> str | Skipped:
    """Return the name of a CrossCL weight in the target format, or the reason to skip the weight.

    ``complete`` is True if the checkpoint contains the key encoder of a CrossCL.
    """
    if to == 'crosscl':
        if name.startswith(('key_encoder.', 'queue.')) and not complete:
            return Skipped('part of another method; CrossCL initializes this weight itself')
        return name
    if name.startswith('key_encoder.'):
        return Skipped('part of the key encoder; detectors start from the query encoder')
    if name.startswith('queue.'):
        return Skipped('part of the queue of negatives, used only in pre-training')
    if name.startswith('neck.projection.'):
        return Skipped('part of the projection of the global vector, used only in pre-training')
    if name.startswith('neck.level_convs.'):
        return Skipped('part of the pyramid levels of pre-training, used only in pre-training')
    if name.startswith('neck.detector.'):
        if to == 'mmdet':
            return f'neck.{name.removeprefix("neck.detector.")}'
        return Skipped(f"part of a detector's neck, which {to} does not include")
    if to == 'detectron2':
        return to_detectron2(name)
    if to == 'mmdet' and (match := re.fullmatch(rf'({PYRAMID})(\d)(.+)', name)):
        head, level, rest = match.groups()
        if int(level) < start_level:
            return Skipped('a level finer than C3, where the FPN starts')
        return f'{head}{int(level) - start_level}{rest}'
    if to != 'mmdet' and not name.startswith('backbone.'):
        return Skipped(f'part of the FPN, which {to} does not include')
    return name if to.startswith('mmdet') else name.removeprefix('backbone.')


def _detectron2_settings(input_format: InputFormat) -> str:
    order, style = input_format.channel_order.upper(), input_format.style
    return (
        f'Set these values in the Detectron2 config: MODEL.PIXEL_MEAN {list(input_format.mean)}, '
        f'MODEL.PIXEL_STD {list(input_format.std)}, INPUT.FORMAT "{order}" and '
        f'MODEL.RESNETS.STRIDE_IN_1X1 {style == "caffe"}.'
    )
