"""How MMEngine and torch load checkpoints while a run is built, trains or tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine import fileio
from mmengine.runner import CheckpointLoader

from mmcrosscl.checkpoints import read_checkpoint

# torch.load then never falls back to unpickling, whatever its caller asks for
SAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
# local files, and the stores that MMEngine's file backends read
STORES = ('', r'(\S+\:)?s3://', r'(\S+\:)?petrel://')


@contextmanager
def checkpoint_loading(trust: bool) -> Iterator[None]:
    """Load checkpoints with :func:`read_checkpoint` within the block, then as before.

    This covers ``--resume``, ``load_from`` and what models load by ``init_cfg``.

    Args:
        trust (bool): Unpickle everything that they contain, programs included.
    """

    def load(filename: str, map_location: object = None) -> dict:
        with fileio.get_local_path(os.path.expanduser(filename)) as path:
            checkpoint = read_checkpoint(path, trust)
        if not trust and isinstance(checkpoint.get('meta'), dict):
            # MMEngine's resume would run this text as Python.
            checkpoint['meta'].pop('config', None)
        return checkpoint

    variable = os.environ.get(SAFE)
    # MMEngine has no public way to ask which loaders are registered, so that they can come back.
    loaders = dict(CheckpointLoader._schemes)
    if trust:
        os.environ.pop(SAFE, None)
    else:
        os.environ[SAFE] = '1'
    CheckpointLoader.register_scheme(list(STORES), load, force=True)
    try:
        yield
    finally:
        for store in STORES:
            CheckpointLoader.register_scheme(store, loaders[store], force=True)
        os.environ.pop(SAFE, None)
        if variable is not None:
            os.environ[SAFE] = variable
