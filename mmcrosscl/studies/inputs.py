"""The configs and checkpoints of a study, which must fit the detector and must not change."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmcrosscl.checkpoints import convert_for_model, fitting_names, read_checkpoint
from mmcrosscl.detectors import (
    drop_weights,
    find_detector,
    initial_checkpoints,
    inner_detector,
    loads_weights,
)
from mmcrosscl.engine import read_config
from mmcrosscl.engine.runner.initial_weights import load_from_file
from mmcrosscl.errors import InputError

from .arms import OWN, Arm

# file in the folder of a job
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
    paths = weight_files(arms, cfg, detector)
    if not paths:
        return
    model = _build(inner_detector(cfg.model), cfg)
    for path, setting in paths.items():
        try:
            convert_for_model(read_checkpoint(path), model)
        except InputError as error:
            raise InputError(f'{path} in {setting}: {error}') from error


def weight_files(arms: Sequence[Arm], cfg: Config, detector: str) -> dict[str, str]:
    """Return the checkpoint files of the arms, and the name of the setting of each.

    The checkpoint in ``load_from`` of the detector's config is the last one, because the heads of
    all arms with weights can start from it.

    Args:
        arms (Sequence[Arm]): The arms.
        cfg (Config): Config of the detector.
        detector (str): Path or name of the config.

    Raises:
        InputError: If the checkpoint in ``load_from`` does not exist or cannot be downloaded.
    """
    starts = [arm.weights for arm in arms if arm.weights is not None]
    files = {start: '--arms' for start in starts if start != OWN}
    if starts and (own := load_from_file(cfg, detector)):
        files.setdefault(str(own), f'load_from of {detector}')
    return files


def holds_other_parts(path: str, cfg: Config) -> bool:
    """Return whether a checkpoint has weights of a detector outside its backbone and its neck.

    Args:
        path (str): The checkpoint.
        cfg (Config): Fine-tuning config of the detector.
    """
    names = fitting_names(read_checkpoint(path), _build(cfg.model, cfg))
    return any(name.partition('.')[0] not in ('backbone', 'neck') for name in names)


def job_inputs(arm: Arm, detector: str) -> dict[str, str]:
    """Return a digest of each config and checkpoint that the jobs of an arm read, by its name.

    Args:
        arm (Arm): The arm.
        detector (str): Config of the detector.

    Raises:
        InputError: If a config or a checkpoint does not exist or cannot be read.
    """
    cfg = read_config(detector)
    digests = {detector: _config_digest(cfg)}
    paths: list[str | None] = []
    if arm.changes is not None:
        changes = read_config(arm.changes)
        digests[arm.changes] = _config_digest(changes)
        settings = [changes.get('load_from'), changes.get('pretrained')]
        paths += [*initial_checkpoints(changes.get('model')), *settings]
    for path, setting in weight_files([arm], cfg, detector).items():
        # the path of a download differs between machines
        digests[path if setting == '--arms' else setting] = _file_digest(path)
    if arm.weights == OWN:
        paths += initial_checkpoints(cfg.model)
        if arm.terms is None:
            paths.append(cfg.get('pretrained'))
    return digests | {path: _file_digest(path) for path in paths if path and Path(path).is_file()}


def check_unchanged(digests: Mapping[str, str], done: Iterable[Path]) -> None:
    """Check that a job reads the same configs and checkpoints as the jobs that are done.

    Args:
        digests (Mapping[str, str]): See :func:`job_inputs`.
        done (Iterable[Path]): Folders of the jobs that are done.

    Raises:
        InputError: If a config or a checkpoint has changed.
    """
    for folder in done:
        path = folder / INPUTS
        earlier = json.loads(path.read_text()) if path.is_file() else {}
        for name, digest in digests.items():
            if earlier.get(name, digest) != digest:
                raise InputError(
                    f'{name} has changed since the job {folder.name} of the study; restore it, or '
                    'set another --work-dir'
                )


def _build(model: ConfigDict, cfg: Config) -> nn.Module:
    settings = deepcopy(model)
    drop_weights(settings)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        return MODELS.build(settings)


def _config_digest(cfg: Config) -> str:
    # the settings and not the file, because a config inherits from other files
    settings = json.dumps(cfg.to_dict(), default=_text, skipkeys=True)
    return hashlib.sha256(settings.encode()).hexdigest()


def _text(value: object) -> object:
    """Return a text that is the same in every process."""
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    return getattr(value, '__qualname__', None) or re.sub(' at 0x[0-9a-f]+', '', repr(value))


def _file_digest(path: str) -> str:
    try:
        with open(path, 'rb') as file:
            return hashlib.file_digest(file, 'sha256').hexdigest()
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}; restore it') from error
