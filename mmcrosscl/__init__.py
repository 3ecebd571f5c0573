"""CrossCL: cross-stage regional contrastive pre-training for detectors, on MMEngine.

Importing the package imports neither torch nor mmcv. The OpenMMLab packages are checked when the
first component is looked up; see :mod:`mmcrosscl.dependencies`.
"""

from importlib.util import find_spec

from .version import __version__

__all__ = ['__version__']

if find_spec('mmengine') is not None:
    from mmengine.config.utils import MODULE2PACKAGE

    # MMEngine inherits `_base_ = 'mmcrosscl::…'` only from packages that it knows.
    MODULE2PACKAGE['mmcrosscl'] = 'mmcrosscl'
