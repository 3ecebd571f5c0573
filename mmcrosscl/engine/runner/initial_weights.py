"""A check of the checkpoints that a model loads when its weights are initialized."""

from collections.abc import Iterable
from http.client import HTTPException
from urllib.error import URLError

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


def not_downloaded(error: Exception, path: str = '') -> InputError:
    """Return the error of initial weights that cannot be downloaded.

    Args:
        error (Exception): Error of the connection.
        path (str): The URL. Defaults to '' (unknown).
    """
    weights = f'initial weights {path}'.rstrip()
    return InputError(
        f'{weights} cannot be downloaded ({getattr(error, "reason", error)}); check '
        "the network, set the checkpoint in the backbone's init_cfg to a local file, or start from "
        'random weights with model.backbone.init_cfg=None or mmcrosscl pretrain --from-scratch'
    )
