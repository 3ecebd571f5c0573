"""A whole training config that runs in seconds."""

import uuid
from pathlib import Path

from mmengine.config import Config

from mmcrosscl.datasets.demo.photos import write_demo_photos

CONFIG = 'configs/crosscl/r50_8xb32_folder.py'
# for `--cfg-options`: the published config on few images with a small model
SMALL = dict(
    model=dict(
        queue_len=16,
        backbone=dict(depth=18),
        neck=dict(in_channels=[128, 256, 512], hid_channels=32, out_channels=16),
    ),
    default_hooks=dict(logger=dict(interval=1)),
    randomness=dict(seed=0),
)


def tiny_config(
    folder: Path, epochs: int = 1, images: int = 8, workers: int = 0, config: str = CONFIG
) -> Config:
    """A config on few photographs, with a ResNet-18 and views of 64; writes to folder/work."""
    if not (folder / 'photos').exists():
        write_demo_photos(folder / 'photos', count=images)
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(SMALL)
    cfg.train_dataloader.update(
        batch_size=images // 2, num_workers=workers, persistent_workers=workers > 0
    )
    cfg.train_dataloader.dataset.update(data_root=str(folder / 'photos'), data_prefix='')
    cfg.train_dataloader.dataset.pipeline[1].scale = 64
    cfg.train_cfg.max_epochs = epochs
    cfg.work_dir = str(folder / 'work')
    # mmengine would give runs of one second one log
    cfg.experiment_name = str(uuid.uuid4())
    return cfg
