"""Pure-Python configs with the settings of the text configs.

Only the text configs in ``configs/`` define settings. Each module of
:mod:`mmcrosscl.configs.crosscl` reads the settings of the text config with the same name, where
``_`` replaces ``-``::

    with read_base():
        from mmcrosscl.configs.crosscl.r50_8xb32 import *
"""

from pathlib import Path

from mmengine.config import Config, ConfigDict

# In a clone, this folder is a symbolic link; in the installed package, it is a copy.
FOLDER = Path(__file__).parents[1] / '.mim/configs'


def settings(path: str) -> ConfigDict:
    """Read a text config together with the configs that it inherits from.

    Args:
        path (str): Path below ``configs/``, such as ``'crosscl/r50_8xb32.py'``.

    Returns:
        ConfigDict: Settings by name. Each call returns new objects, which may be modified in place.

    Raises:
        FileNotFoundError: If the config does not exist.
    """
    return ConfigDict(Config.fromfile(FOLDER / path).to_dict())
