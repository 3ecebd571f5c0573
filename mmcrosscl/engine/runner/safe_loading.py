"""Safe loading of checkpoints by MMEngine and torch while a run is built, trained or tested."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mmengine import fileio
from mmengine.runner import CheckpointLoader
from torch import Tensor

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.compat.safe_load import (
    FORCE_NO_WEIGHTS_ONLY,
    FORCE_WEIGHTS_ONLY,
    without_variables,
)

# URL patterns of local files and of the remote stores that MMEngine's file backends support
STORES = ('', r'(\S+\:)?s3://', r'(\S+\:)?petrel://')


@contextmanager
def checkpoint_loading(trust: bool) -> Iterator[None]:
    """Load checkpoints with :func:`read_checkpoint` within the block.

    This applies to ``--resume``, to ``load_from``, and to checkpoints that models load because of
    ``init_cfg``.

    Args:
        trust (bool): Unpickle all objects. This runs any code in a checkpoint with the permissions
            of the user.
    """

    # MMEngine logs what follows `load_from_` as the name of the backend
    def load_from_mmcrosscl(filename: str, map_location: object = None) -> Mapping:
        with fileio.get_local_path(os.path.expanduser(filename)) as path:
            checkpoint = read_checkpoint(path, trust)
        if not trust and isinstance(checkpoint.get('meta'), dict):
            # To resume, MMEngine would run this text as Python code.
            checkpoint['meta'].pop('config', None)
        # EMAHook expects the key
        bare = all(isinstance(value, Tensor) for value in checkpoint.values())
        return dict(state_dict=checkpoint) if bare else checkpoint

    # MMEngine has no public function that returns the loaders, which are restored after the block.
    loaders = dict(CheckpointLoader._schemes)
    variables = [FORCE_WEIGHTS_ONLY] if trust else [FORCE_WEIGHTS_ONLY, FORCE_NO_WEIGHTS_ONLY]
    with without_variables(*variables):
        if not trust:
            os.environ[FORCE_WEIGHTS_ONLY] = '1'
        CheckpointLoader.register_scheme(list(STORES), load_from_mmcrosscl, force=True)
        try:
            yield
        finally:
            for store in STORES:
                CheckpointLoader.register_scheme(store, loaders[store], force=True)
