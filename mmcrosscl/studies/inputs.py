"""The configs and checkpoints of a study, which must fit the detector and must not change."""

import hashlib
import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmcrosscl.checkpoints import atomic_write, convert_for_model, read_checkpoint
from mmcrosscl.detectors import drop_weights, find_detector, inner_detector, loads_weights
from mmcrosscl.engine import read_config
from mmcrosscl.engine.runner.initial_weights import load_from_file
from mmcrosscl.errors import InputError

from .arms import OWN, Arm

INPUTS = 'inputs.json'


def check_weights(arms: Sequence[Arm], cfg: Config, detector: str) -> None:
    """Check that the detector can be initialized with the weights of the arms.

    Args:
        arms (Sequence[Arm]): The arms.
        cfg (Config): Config of the detector.
        detector (str): Path or name of the config.

    Raises:
        InputError: If an arm would start from random weights because the config loads no others, or
            if a checkpoint does not exist, cannot be read, or does not fit the detector.
    """
    for arm in arms:
        if arm.weights != OWN:
            continue
        # of the model, a pre-training takes only these parts
        parts = find_detector(cfg, detector)
        loads = loads_weights([parts.backbone, parts.neck]) or bool(cfg.get('load_from'))
        if arm.terms is None:
            loads = loads or loads_weights(cfg.model) or bool(cfg.get('pretrained'))
        if not loads:
            raise InputError(
                f"the arm {arm.text} starts from the weights that the detector's config loads, but "
                f'{detector} has neither load_from nor an init_cfg of the backbone with a '
                f'checkpoint; set one of them, or pass {arm.text}=FILE'
            )
    paths = _weight_files(arms, cfg, detector)
    if not paths:
        return
    settings = deepcopy(inner_detector(cfg.model))
    drop_weights(settings)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        model = MODELS.build(settings)
    for path, setting in paths.items():
        try:
            convert_for_model(read_checkpoint(path), model)
        except InputError as error:
            raise InputError(f'{path} in {setting}: {error}') from error


def check_unchanged(work_dir: Path, detector: str, arms: Sequence[Arm]) -> None:
    """Check that no config or checkpoint has changed since the study began.

    The first call for a folder writes the digests that later calls compare.

    Args:
        work_dir (Path): Folder of the study.
        detector (str): Config of the detector.
        arms (Sequence[Arm]): The arms.

    Raises:
        InputError: If a config or a checkpoint has changed or does not exist.
    """
    configs = {detector, *(arm.changes for arm in arms if arm.changes is not None)}
    weights = _weight_files(arms, read_config(detector), detector)
    digests = {config: _config_digest(config) for config in sorted(configs)}
    digests |= {path: _file_digest(path) for path in sorted(weights)}
    path = work_dir / INPUTS
    if not path.is_file():
        atomic_write(path, lambda path: path.write_text(json.dumps(digests, indent=1)))
        return
    earlier = json.loads(path.read_text())
    for name, digest in digests.items():
        if earlier.get(name) != digest:
            raise InputError(
                f'{name} has changed since the study in {work_dir} began; restore it, or set '
                'another --work-dir'
            )


def _weight_files(arms: Sequence[Arm], cfg: Config, detector: str) -> dict[str, str]:
    """Return the checkpoint files of the arms, and the name of the setting of each."""
    files = {arm.weights: '--arms' for arm in arms if arm.weights not in (None, OWN)}
    if any(arm.weights == OWN for arm in arms) and (own := load_from_file(cfg, detector)):
        files.setdefault(str(own), f'load_from of {detector}')
    return files


def _config_digest(config: str) -> str:
    # the settings and not the file, because a config inherits from other files
    settings = json.dumps(read_config(config).to_dict(), sort_keys=True, default=repr)
    return hashlib.sha256(settings.encode()).hexdigest()


def _file_digest(path: str) -> str:
    try:
        with open(path, 'rb') as file:
            return hashlib.file_digest(file, 'sha256').hexdigest()
    except FileNotFoundError as error:
        raise InputError(f'{path} in --arms does not exist; restore it') from error
