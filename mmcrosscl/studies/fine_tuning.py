"""The fine-tuning config of a study, from the config of any detector of MMDetection."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, DefaultScope

from mmcrosscl.detectors import drop_weights, find_detector, inner_detector
from mmcrosscl.engine.hooks import PretrainedHook
from mmcrosscl.errors import InputError
from mmcrosscl.registry import HOOKS, component_class

# share of the iterations in which the learning rate rises
WARM_UP = 0.1
# for which the learning rates of MMDetection's configs are tuned
GPUS = 8


@dataclass(frozen=True)
class Labels:
    """A COCO file, and the folder of its images."""

    ann_file: str
    images: str


def fine_tuning_config(
    detector: Config,
    name: str,
    classes: tuple[str, ...],
    iterations: int,
    train: Labels,
    val: Labels,
    test: Labels,
    batch_size: int | None = None,
    keep_weights: bool = False,
) -> Config:
    """Return a config that fine-tunes a detector on labels in COCO format.

    The architecture, the data pipelines, the optimizer and the batch size are those of the
    detector's config. The datasets, the number of classes and the schedule are replaced: a number
    of iterations with a linear warm-up and a cosine decay. All layers are trained, because frozen
    layers would be those of random weights in some arms.

    Args:
        detector (Config): Config of a detector.
        name (str): Path of the config, for messages.
        classes (tuple[str, ...]): Names of the classes, in the order of their ids.
        iterations (int): Number of iterations.
        train (Labels): Training set.
        val (Labels): Set that is evaluated after the last iteration.
        test (Labels): Set that ``mmcrosscl test`` evaluates.
        batch_size (int, optional): Images per iteration. Defaults to that of the config.
        keep_weights (bool): Keep the pre-trained weights that the config loads into the backbone.
            Defaults to False (random weights).

    Raises:
        InputError: If the config has no data pipeline or no optimizer, or is not a detector's.
    """
    cfg = Config(detector.to_dict())
    check_config(cfg, name)
    parts = find_detector(detector, name, keep_weights)
    model = inner_detector(cfg.model)
    model.backbone = ConfigDict(parts.backbone)
    if parts.neck is not None:
        model.neck = parts.neck
    _set_classes(cfg.model, len(classes))
    size = batch_size or cfg.train_dataloader.batch_size
    test_pipeline = _pipeline((cfg.get('test_dataloader') or cfg.val_dataloader).dataset)
    loader = cfg.train_dataloader
    dataset = _own(loader.dataset)
    inner = _innermost(dataset)
    changed = dict(
        type='mmdet.CocoDataset',
        metainfo=dict(classes=classes),
        data_root='',
        ann_file=train.ann_file,
        data_prefix=dict(img=train.images),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=inner.pipeline,
    )
    inner.clear()
    inner.update(changed)
    cfg.train_dataloader = dict(
        batch_size=size,
        num_workers=min(loader.get('num_workers', 2), 2),
        persistent_workers=True,
        sampler=dict(type='InfiniteSampler', shuffle=True),
        dataset=dataset,
        **({'collate_fn': loader.collate_fn} if 'collate_fn' in loader else {}),
    )
    cfg.train_dataloader.persistent_workers = cfg.train_dataloader.num_workers > 0
    for split, labels in (('val', val), ('test', test)):
        cfg[f'{split}_dataloader'] = dict(
            batch_size=size,
            num_workers=1,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(
                type='mmdet.CocoDataset',
                metainfo=dict(classes=classes),
                ann_file=labels.ann_file,
                data_prefix=dict(img=labels.images),
                pipeline=test_pipeline,
                test_mode=True,
            ),
        )
        cfg[f'{split}_evaluator'] = dict(
            type='mmdet.CocoMetric', ann_file=labels.ann_file, metric='bbox'
        )
        cfg[f'{split}_cfg'] = dict(type='ValLoop' if split == 'val' else 'TestLoop')
    _set_schedule(cfg, iterations)
    if not keep_weights:
        _drop_pretrained(cfg)
    return cfg


def check_config(cfg: Config, name: str) -> None:
    """Check that a config has what a study needs.

    Raises:
        InputError: If the config has no data loaders or no learning rate, or if its model wraps a
            detector, such as Soft Teacher.
    """
    for key in ('train_dataloader', 'optim_wrapper'):
        if not isinstance(cfg.get(key), Mapping):
            raise InputError(f'{name} has no {key}; pass a complete training config of a detector')
    if cfg.get('test_dataloader') is None and cfg.get('val_dataloader') is None:
        raise InputError(f'{name} has no test_dataloader; pass a complete config of a detector')
    if (inner := inner_detector(cfg.model)) is not cfg.model:
        raise InputError(
            f'{name} trains {cfg.model.type} with unlabeled images, which a study cannot; pass the '
            f'config of its detector, a {inner.type}'
        )
    if 'lr' not in cfg.optim_wrapper.get('optimizer', {}):
        raise InputError(f'{name} has no optim_wrapper.optimizer.lr; pass a config with one')


def learning_rate(detector: Config, batch_size: int) -> float:
    """Return the learning rate of a detector's config, scaled linearly to a batch size.

    Goyal et al., 2017 (https://arxiv.org/abs/1706.02677). The rate of the config is for
    ``auto_scale_lr.base_batch_size`` images. RTMDet's configs inherit 16 there, but have 32 images
    per GPU: if the value is below the images of one GPU, the rate is that of eight GPUs.

    Args:
        detector (Config): Config of a detector.
        batch_size (int): Number of images per iteration.
    """
    base = (detector.get('auto_scale_lr') or {}).get('base_batch_size')
    if base is None:
        return detector.optim_wrapper.optimizer.lr
    if (per_gpu := detector.train_dataloader.batch_size) > base:
        base = GPUS * per_gpu
    return detector.optim_wrapper.optimizer.lr * batch_size / base


def loads_masks(detector: Config) -> bool:
    """Return whether a data pipeline of a detector's config loads masks."""
    loaders = (detector.get(f'{split}_dataloader') for split in ('train', 'val', 'test'))
    return any(_has(loader, 'with_mask') for loader in loaders)


def _has(node: object, key: str) -> bool:
    if isinstance(node, Mapping):
        return bool(node.get(key)) or any(_has(value, key) for value in node.values())
    return isinstance(node, list | tuple) and any(_has(value, key) for value in node)


def _own(dataset: ConfigDict) -> ConfigDict:
    """Return a dataset without the wrappers that repeat or join datasets."""
    while 'pipeline' not in dataset:
        inner = dataset.get('dataset') or (dataset.get('datasets') or [None])[0]
        if inner is None:
            raise InputError('a dataset of the detector config has no pipeline; add one')
        dataset = inner
    return dataset


def _innermost(dataset: ConfigDict) -> ConfigDict:
    """Return the dataset that reads images, such as that within MultiImageMixDataset."""
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


def _pipeline(dataset: ConfigDict) -> list:
    return _own(dataset).pipeline


def _set_classes(node: object, count: int) -> None:
    """Set ``num_classes`` in all heads."""
    if isinstance(node, list | tuple):
        for item in node:
            _set_classes(item, count)
    if isinstance(node, dict):
        for key, value in node.items():
            if key == 'num_classes':
                node[key] = count
            else:
                _set_classes(value, count)


def _drop_pretrained(cfg: Config) -> None:
    """Remove the checkpoints that a config starts from."""
    drop_weights(cfg.model)
    cfg.pop('pretrained', None)

    def is_pretrained_hook(hook: Mapping | None) -> bool:
        return component_class(HOOKS, (hook or {}).get('type')) is PretrainedHook

    hooks = cfg.default_hooks.items()
    cfg.default_hooks = {name: hook for name, hook in hooks if not is_pretrained_hook(hook)}
    custom = cfg.get('custom_hooks') or []
    cfg.custom_hooks = [hook for hook in custom if not is_pretrained_hook(hook)]


def _set_schedule(cfg: Config, iterations: int) -> None:
    warm_up = max(1, round(WARM_UP * iterations))
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warm_up),
        dict(
            type='CosineAnnealingLR',
            T_max=max(1, iterations - warm_up),
            by_epoch=False,
            begin=warm_up,
            end=max(iterations, warm_up + 1),
        ),
    ]
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        kind = component_class(OPTIM_WRAPPERS, cfg.optim_wrapper.get('type', 'OptimWrapper'))
    if kind is AmpOptimWrapper and not torch.cuda.is_available():
        cfg.optim_wrapper.type = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(key, None)
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=cfg.train_dataloader.batch_size)
    hooks = cfg.get('default_hooks') or {}
    cfg.default_hooks = {
        **hooks,
        'checkpoint': dict(
            type='mmcrosscl.SafeCheckpointHook',
            by_epoch=False,
            interval=max(1, iterations // 2),
            max_keep_ckpts=1,
        ),
        'logger': dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    }
    cfg.log_processor = dict(type='LogProcessor', by_epoch=False, window_size=50)
    # a study reads the scores from the files of this backend
    cfg.visualizer = dict(
        type='mmdet.DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]
    )
    cfg.load_from, cfg.resume = None, False
    cfg.runner_type = 'mmcrosscl.ResumableRunner'
