"""The checkpoints that a model or a detector is initialized with: a check, and downloads."""

from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import nn

from mmcrosscl.detectors import initial_checkpoints
from mmcrosscl.errors import InputError

from .safe_loading import checkpoint_loading

# errors of a connection, at its start and during a download
CONNECTION_ERRORS = (URLError, ConnectionError, TimeoutError, HTTPException)


def check_initial_weights(paths: Iterable[str], trust: bool = False) -> None:
    """Load checkpoints once, so that errors are found before the data is indexed.

    Files that are downloaded stay in torch's cache, from which the model loads them.

    Args:
        paths (Iterable[str]): Paths, or URLs such as ``torchvision://resnet50``.
        trust (bool): See :func:`checkpoint_loading`. Defaults to False.

    Raises:
        InputError: If a checkpoint does not exist, cannot be downloaded or cannot be read.
    """
    with checkpoint_loading(trust):
        for path in dict.fromkeys(paths):
            try:
                CheckpointLoader.load_checkpoint(path, 'cpu')
            except CONNECTION_ERRORS as error:
                raise not_downloaded(error, path) from error


def checkpoints_of(model: nn.Module) -> list[str]:
    """Return the checkpoints that a built model loads when its weights are initialized."""
    configs = [getattr(module, 'init_cfg', None) for module in model.modules()]
    return initial_checkpoints([dict(init_cfg=config) for config in configs])


def load_from_file(cfg: Config, name: str) -> Path | None:
    """Return the checkpoint in the setting ``load_from`` of a detector, or None without one.

    A checkpoint with an HTTP URL is downloaded to torch's cache, as MMEngine does.

    Args:
        cfg (Config): Config of the detector.
        name (str): Path of the config, for messages.

    Raises:
        InputError: If the checkpoint does not exist or cannot be downloaded.
    """
    source = cfg.get('load_from')
    if source is None:
        return None
    if urlsplit(source).scheme in ('http', 'https'):
        return _download(source)
    path = Path(source).expanduser()
    if not path.is_file():
        raise InputError(
            f'{name} sets load_from to {source}, which is not a file or an HTTP URL; correct or '
            'remove it (mmcrosscl pretrain: or pass --weights or --from-scratch)'
        )
    return path.resolve()


def _download(url: str) -> Path:
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(urlsplit(url).path).name)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path))
        # an error of the connection, or of the folder
        except (HTTPException, OSError) as error:
            raise not_downloaded(error, url) from error
    return path


def not_downloaded(error: Exception, path: str = '') -> InputError:
    """Return the error of initial weights that cannot be downloaded.

    Args:
        error (Exception): Error of the connection.
        path (str): The URL. Defaults to '' (unknown).
    """
    weights = f'initial weights {path}'.rstrip()
    return InputError(
        f'{weights} cannot be downloaded ({getattr(error, "reason", error)}); check the network, '
        'set the checkpoint in the config to a local file, or start from random weights with '
        'model.backbone.init_cfg=None or mmcrosscl pretrain --from-scratch'
    )
