"""What the pre-training of a detector does, before and after it."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from mmengine.config import Config

from mmcrosscl.models import CrossCLHead, DetectorNeck
from mmcrosscl.option_values import format_value
from mmcrosscl.registry import MODELS, component_class

from .detector import Detector
from .dry_run import Features


def used_levels(
    model: Mapping, features: Features, sides: Sequence[str] = ('query', 'key')
) -> dict[str, int]:
    """Return the levels that the terms of a pre-training model use.

    Args:
        model (Mapping): ``model`` of a pre-training config.
        features (Features): See :func:`dry_run`.
        sides (Sequence[str]): Sides of a term that count. The maps of 'query' get a gradient, and
            those of 'key' do not. Defaults to both.

    Returns:
        dict[str, int]: Name and stride of each level, the coarsest one first; ``features.levels``
        if the model has another neck or head than :class:`DetectorNeck` and :class:`CrossCLHead`,
        or maps that the dry run did not return.
    """
    for part, expected in dict(neck=DetectorNeck, head=CrossCLHead).items():
        found = component_class(MODELS, model[part].get('type'))
        if found is None or not issubclass(found, expected):
            return features.levels
    names = {term[side] for term in model['head']['terms'] for side in sides}
    strides = {level: stride for level, stride in model['neck']['levels'].items() if level in names}
    if not set(features.map_strides).issuperset(strides.values()):
        return features.levels
    return dict(sorted(strides.items(), key=lambda item: -item[1]))


def describe(
    detector: Detector, features: Features, cfg: Config, images: int, processes: int, seconds: float
) -> list[str]:
    """Return the lines of a summary before pre-training.

    Args:
        detector (Detector): See :func:`find_detector`.
        features (Features): See :func:`dry_run`.
        cfg (Config): The pre-training config.
        images (int): Number of images in the folder.
        processes (int): Number of processes.
        seconds (float): Time of an iteration; see :func:`seconds_per_iteration`.
    """
    batch, iterations = cfg.train_dataloader.batch_size * processes, cfg.train_cfg.max_iters
    epochs, used = iterations * batch / images, used_levels(cfg.model, features)
    *others, last = [
        f'{level.upper()} (stride {stride}, {features.channels(stride)} channels)'
        for level, stride in used.items()
    ] or ['none, the global term only']
    length = f'{epochs:,.0f}' if epochs >= 10 else f'{epochs:.2g}'
    total = timedelta(seconds=round(seconds * iterations))
    rows = dict(
        levels=' and '.join([', '.join(others), last] if others else [last]),
        schedule=f'{iterations:,} iterations of {batch} images '
        f'({length} epochs of {images:,} images)',
        time=f'about {total}, at {seconds:.3g} s per iteration on this machine',
    )
    lines = [f'  {name:9}  {value}' for name, value in rows.items()]
    notes = list(detector.notes)
    if detector.neck is None:
        notes.append('The detector has no neck, so pre-training uses an FPN, which is omitted from '
                     'the checkpoint of the detector.')  # fmt: skip
    if cfg.model.neck.get('level_channels'):
        notes.append('The levels have different widths, so pre-training maps them to one width by '
                     '1×1 convolutions.')  # fmt: skip
    if len(cfg.model.neck.get('levels', features.levels)) == 1:
        notes.append('The detector has a single level, so no term contrasts two levels.')
    return [f'Pre-training of {detector.name}', *lines, *(f'  {note}' for note in notes)]


def report(detector: Detector, features: Features, config: str, checkpoint: Path) -> list[str]:
    """Return the lines of a summary after pre-training.

    Args:
        detector (Detector): See :func:`find_detector`.
        features (Features): See :func:`dry_run`.
        config (str): Config of the detector.
        checkpoint (Path): Checkpoint with the weights of the detector.
    """
    part = 'backbone' if detector.neck is None else 'backbone and neck'
    unreached = features.parameters - features.reached
    shares = {
        'trained': features.reached,
        'not trained, because no loss term uses these layers': unreached,
    }
    lines = [
        f'  {100 * count / features.parameters:3.0f} %  {what} ({count:,} parameters)'
        for what, count in shares.items()
    ]
    own = 'its own config'
    if '::' in config:
        # such a config trains on the dataset of the package, such as COCO
        own = f'YOUR_CONFIG.py, which inherits from {config} and sets your dataset'
        config = 'YOUR_CONFIG.py'
    return [
        f'Pre-trained {detector.name}. Of its {part}:',
        *lines,
        '  All other parts of the detector, such as its heads, start from load_from of its config, '
        'or else from random weights.',
        f'  checkpoint  {checkpoint}',
        f'Next: fine-tune the detector with {own}',
        f'  mmcrosscl train {shlex.quote(config)} --cfg-options '
        + shlex.quote(f'pretrained={format_value(str(checkpoint))}'),
    ]
