"""The text of a pre-training config for a detector."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .detector import Detector
from .dry_run import EMBED_CHANNELS, Features
from .levels import choose_terms
from .view_size import VIEW_SIZE

EPOCHS, MIN_ITERATIONS = 200, 5000
# iterations between two checkpoints; the last iteration is always saved
MIN_INTERVAL = 50
QUEUE_LENGTH = 65536
# range of the standard deviation of the blur in pixels, for views of 224 pixels
SIGMAS = (0.1, 2.0)


@dataclass(frozen=True)
class Schedule:
    """Length and batch size of a pre-training.

    Attributes:
        iterations: Number of training steps.
        batch_size: Number of images per process.
        workers: Number of data-loading workers per process.
    """

    iterations: int
    batch_size: int
    workers: int


def default_iterations(images: int, batch_size: int) -> int:
    """Return the iterations of 200 epochs, as published, but at least 5,000.

    Args:
        images (int): Number of images.
        batch_size (int): Number of images per iteration of all processes.
    """
    return max(math.ceil(EPOCHS * images / batch_size), MIN_ITERATIONS)


def config_text(
    detector: Detector,
    features: Features,
    data: str,
    images: int,
    schedule: Schedule,
    terms: str = 'crosscl',
    weights: str | None = None,
) -> str:
    """Return the text of a config that pre-trains the backbone and the neck of a detector.

    Args:
        detector (Detector): See :func:`find_detector`.
        features (Features): See :func:`dry_run`.
        data (str): Folder of images.
        images (int): Number of images in the folder.
        schedule (Schedule): Length and batch size.
        terms (str): See :func:`choose_terms`. Defaults to 'crosscl'.
        weights (str, optional): Checkpoint to start from. Defaults to None (the initial weights of
            the detector's config).

    Returns:
        str: A config in MMEngine's format, which inherits from the base configs of mmcrosscl.
    """
    iterations = schedule.iterations
    interval = max(MIN_INTERVAL, iterations // 10)
    pipeline: dict[str, object] = dict(train_pipeline=Code('_base_.train_pipeline'))
    if features.view_size != VIEW_SIZE:
        # the second transform is TwoCrops
        pipeline['train_pipeline[1]["scale"]'] = features.view_size
    if features.view_size < VIEW_SIZE:
        # the third transform is RandomGaussianBlur; small views keep the share that is blurred
        scale = features.view_size / VIEW_SIZE
        sigmas = tuple(round(scale * sigma, 3) for sigma in SIGMAS)
        pipeline['train_pipeline[2]["sigma_range"]'] = sigmas
    settings: list[dict] = [
        dict(
            _base_=[
                'mmcrosscl::_base_/datasets/imagenet.py',
                'mmcrosscl::_base_/schedules/sgd_coslr_200e.py',
                'mmcrosscl::_base_/default_runtime.py',
            ]
        ),
        dict(default_scope=detector.scope),
        dict(custom_imports=dict(imports=list(detector.imports))) if detector.imports else {},
        dict(pretrained=weights) if weights else {},
        dict(model=_model(detector, features, images, terms)),
        pipeline,
        dict(
            train_dataloader=dict(
                batch_size=schedule.batch_size,
                num_workers=schedule.workers,
                # infinite, so that the number of iterations does not depend on the images
                sampler=dict(type='mmcrosscl.SeededInfiniteSampler', shuffle=True),
                dataset=dict(data_root=data, data_prefix='', pipeline=Code('train_pipeline')),
            )
        ),
        _optimization(features, iterations),
        dict(
            train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=iterations),
            default_hooks=dict(checkpoint=dict(by_epoch=False, interval=interval)),
            log_processor=dict(by_epoch=False),
        ),
        # the loss terms do not reach every parameter of the neck
        dict(find_unused_parameters=True) if features.unreached or terms == 'global' else {},
    ]
    blocks = (
        '\n'.join(f'{name} = {source(value)}' for name, value in block.items())
        for block in settings
        if block
    )
    title = f'# Pre-training of the backbone and the neck of {detector.name}\n'
    return title + '\n\n'.join(blocks) + '\n'


class Code(str):
    """An expression in the text of a config."""


def source(value: object, indent: int = 0) -> str:
    """Return Python source for a value of a config, on one line if it is short."""
    if isinstance(value, Code):
        return str(value)
    items: list[tuple[str, object]]
    ends: Sequence[str]
    if isinstance(value, dict) and all(
        isinstance(key, str) and key.isidentifier() for key in value
    ):
        items, ends = [(f'{key}=', x) for key, x in _type_first(value).items()], ('dict(', ')')
    elif isinstance(value, dict):
        items, ends = [(f'{key!r}: ', x) for key, x in value.items()], '{}'
    elif isinstance(value, list | tuple):
        items = [('', x) for x in value]
        # a tuple of one item needs the comma of the long form
        ends = '[]' if isinstance(value, list) else '()'
    else:
        return repr(value)
    line = ends[0] + ', '.join(key + source(x) for key, x in items) + ends[1]
    one = isinstance(value, tuple) and len(value) == 1
    if not one and '\n' not in line and len(line) + indent < 88:
        return line
    pad = ' ' * (indent + 4)
    lines = [f'{pad}{key}{source(x, indent + 4)},' for key, x in items]
    return '\n'.join([ends[0], *lines, ' ' * indent + ends[1]])


def _type_first(settings: dict) -> dict:
    first = {'type': settings['type']} if 'type' in settings else {}
    return first | settings


def _model(detector: Detector, features: Features, images: int, terms: str) -> dict:
    channels = features.level_channels
    different = len(set(channels.values())) > 1
    last = features.stage_channels[-1]
    return dict(
        type='mmcrosscl.CrossCL',
        # with more keys than images, the negatives would include many keys of the same image
        queue=dict(type='mmcrosscl.KeyQueue', length=min(QUEUE_LENGTH, max(images, 64))),
        momentum=0.001,
        **({} if features.channels_last else dict(channels_last=False)),
        data_preprocessor=dict(type='mmcrosscl.ViewPreprocessor', **detector.preprocessor),
        backbone=detector.backbone,
        neck=dict(
            type='mmcrosscl.DetectorNeck',
            detector=features.neck,
            in_channels=last,
            map_strides=list(features.map_strides),
            levels=features.levels,
            **(dict(level_channels=channels, embed_channels=EMBED_CHANNELS) if different else {}),
            stage_strides=[stride for stride in features.stage_strides if stride],
            hid_channels=last,
            feat_dim=128,
        ),
        head=dict(
            type='mmcrosscl.CrossCLHead',
            terms=choose_terms(features.levels, terms),
            roi_layer=dict(type='RoIAlign', output_size=1, sampling_ratio=0, aligned=False),
            loss=dict(type='mmcrosscl.InfoNCELoss', temperature=0.2),
        ),
    )


def _optimization(features: Features, iterations: int) -> dict:
    """Return SGD as published, or AdamW for a backbone without batch norm, such as a transformer.

    SGD needs batch norm, because the published learning rate is large.
    """
    if features.batch_norm:
        return dict(param_scheduler=[_cosine(0, iterations)])
    warm_up = iterations // 20
    # LinearLR needs two iterations to change the rate
    linear = dict(type='LinearLR', start_factor=0.01, begin=0, end=warm_up, by_epoch=False)
    schedule = [linear, _cosine(warm_up, iterations)] if warm_up > 1 else [_cosine(0, iterations)]
    return dict(
        optim_wrapper=dict(optimizer=dict(_delete_=True, type='AdamW', lr=2e-4, weight_decay=0.05)),
        param_scheduler=schedule,
    )


def _cosine(begin: int, end: int) -> dict:
    return dict(
        type='CosineAnnealingLR', T_max=max(1, end - begin), begin=begin, end=end, by_epoch=False
    )
