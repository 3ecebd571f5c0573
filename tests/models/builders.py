"""Small models and batches for the tests."""

import numpy as np
import torch
from mmengine.config import Config

from mmcrosscl.datasets.transforms import map_boxes, windows
from mmcrosscl.structures import ViewPairSample

BASE = Config.fromfile('configs/_base_/models/crosscl_r50_fpn.py').model


def model_config(
    depth: int = 18,
    queue_len: int = 64,
    roi_layer: dict | None = None,
    norm_cfg: dict | None = None,
    width: int = 64,
    **changes,
) -> dict:
    """Return the published model's config with another ResNet depth and width and a short queue."""
    channels = [width * factor for factor in ((8, 16, 32) if depth >= 50 else (2, 4, 8))]
    cfg = Config(BASE.to_dict())
    cfg.merge_from_dict(
        dict(
            queue=dict(length=queue_len),
            backbone=dict(
                type='mmpretrain.ResNet', depth=depth, base_channels=width, stem_channels=width
            ),
            neck=dict(in_channels=channels, hid_channels=channels[-1], norm_cfg=norm_cfg),
            data_preprocessor=dict(type='mmcrosscl.ViewPreprocessor'),
        )
    )
    if roi_layer is not None:
        cfg.head.roi_layer = roi_layer
    cfg.merge_from_dict(changes)
    return cfg.to_dict()


def make_sample(
    size: int, key_crop=(0.0, 0.0, 1.0, 1.0), paired: bool | None = None
) -> ViewPairSample:
    """Return a sample whose key view is a crop of the query view.

    ``key_crop`` is left, top, width and height as fractions of the query view's side.
    """
    query = windows(size)
    full = np.array([0.0, 0.0, size, size])
    key = map_boxes(query, full, np.array(key_crop) * size, size)
    valid = (key[:, :2] >= 0).all(1) & (key[:, 2:] < size).all(1)
    if paired is not None:
        valid[:] = paired
    return ViewPairSample(
        query_regions=query.astype(np.float32), key_regions=key.astype(np.float32), paired=valid
    )


def make_batch(size: int = 64, images: int = 4, seed: int = 0, **sample):
    """Return two batches of random views, and their samples."""
    generator = torch.Generator().manual_seed(seed)
    views = [torch.randn(images, 3, size, size, generator=generator) for _ in range(2)]
    return views, [make_sample(size, **sample) for _ in range(images)]
