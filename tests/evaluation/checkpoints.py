"""Small checkpoints of CrossCL and of a detector, as MMEngine writes them."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmcrosscl.checkpoints import model_input_format
from tests.checkpoints.makers import varied
from tests.models.builders import model_config

# a detector with the backbone and the neck of the demo
DETECTOR = 'configs/detection/faster-rcnn_r18_demo.py'


def write_crosscl(path: Path, width: int = 16) -> Path:
    """Write a checkpoint of a CrossCL with random weights that contains its config."""
    return _write(path, Config(dict(model=model_config(width=width), default_scope='mmpretrain')))


def write_detector(path: Path, config: str | Path = DETECTOR) -> Path:
    """Write a checkpoint of a detector with random weights that contains its config."""
    return _write(path, Config.fromfile(config))


def _write(path: Path, cfg: Config) -> Path:
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    meta = dict(cfg=cfg.pretty_text, input_format=model_input_format(model).to_dict())
    torch.save(dict(meta=meta, state_dict=varied(model.state_dict())), path)
    return path
