"""Factory of tiny training configs that run in a second."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import Config

from mmcrosscl.datasets.demo import write_demo_photos

CONFIG = 'configs/crosscl/r50_8xb32_folder.py'
# The published model at a quarter of its width. With fewer than 12 channels, a CPU kernel of torch
# 2.11 (strided 1×1 convolution, channels-last, several threads) writes beyond its buffer.
TINY = dict(
    model=dict(
        queue=dict(length=20),
        backbone=dict(depth=18, base_channels=16, stem_channels=16),
        neck=dict(in_channels=[32, 64, 128], hid_channels=16, out_channels=8, feat_dim=8),
    ),
    default_hooks=dict(logger=dict(interval=1)),
    randomness=dict(seed=0),
)


def merge_tiny(cfg: Config) -> None:
    """Merge TINY into a config. Another backbone than a ResNet keeps its settings."""
    settings = copy.deepcopy(TINY)
    if not cfg.model.backbone.type.endswith('ResNet'):
        del settings['model']['backbone'], settings['model']['neck']['in_channels']
    cfg.merge_from_dict(settings)


def validate_similarity(cfg: Config) -> None:
    """Validate on the training images of a tiny config, without worker processes."""
    cfg.merge_from_dict(Config.fromfile('configs/_base_/similarity.py').to_dict())
    cfg.val_dataloader.update(num_workers=0, batch_size=4)
    cfg.val_dataloader.dataset.update(
        data_root=cfg.train_dataloader.dataset.data_root, data_prefix=''
    )
    cfg.val_dataloader.dataset.pipeline[1].scale = 64


def tiny_config(
    folder: Path, epochs: int = 1, images: int = 8, workers: int = 0, config: str = CONFIG
) -> Config:
    """Return a config for a few photographs and views of 64 pixels, with work dir folder/work."""
    if not (folder / 'photos').exists():
        write_demo_photos(folder / 'photos', count=images)
    cfg = Config.fromfile(config)
    merge_tiny(cfg)
    cfg.train_dataloader.update(
        batch_size=images // 2, num_workers=workers, persistent_workers=workers > 0
    )
    cfg.train_dataloader.dataset.update(data_root=str(folder / 'photos'), data_prefix='')
    cfg.train_dataloader.dataset.pipeline[1].scale = 64
    cfg.train_cfg.max_epochs = epochs
    cfg.work_dir = str(folder / 'work')
    # not formatted, because a run formats the config several times, a tenth of a second each
    return Config(cfg.to_dict(), filename=cfg.filename, format_python_code=False)


def tiny_options(photos: Path) -> list[str]:
    """Return TINY as KEY=VALUE for `--cfg-options`, with views of 64 pixels and no workers."""
    loader = dict(batch_size=4, num_workers=0, dataset=dict(data_root=str(photos)))
    settings = dict(TINY, train_dataloader=loader)
    options = [f'{name}={value}' for name, value in _flat(settings)]
    return [option.replace(' ', '') for option in options] + [
        'train_dataloader.dataset.pipeline.1.scale=64'
    ]


def _flat(settings: Mapping, prefix: str = '') -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value
