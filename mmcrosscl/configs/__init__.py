"""Settings of the text configs, for configs in pure Python.

The text configs in ``configs/`` are the one source. Each module of :mod:`mmcrosscl.configs.crosscl`
has the settings of the text config of the same name, with ``_`` in place of ``-``::

    with read_base():
        from mmcrosscl.configs.crosscl.r50_8xb32 import *
"""

from pathlib import Path

from mmengine.config import Config, ConfigDict

# a link in a clone, a copy in the installed package
FOLDER = Path(__file__).parents[1] / '.mim/configs'


def settings(path: str) -> ConfigDict:
    """Read a text config together with the configs that it inherits.

    Args:
        path (str): Path below ``configs/``, such as ``'crosscl/r50_8xb32.py'``.

    Returns:
        ConfigDict: Name to value. Each call returns new objects, which may be modified in place.

    Raises:
        FileNotFoundError: If there is no such config.
    """
    return ConfigDict(Config.fromfile(FOLDER / path).to_dict())
