"""CrossCL: cross-stage regional contrastive pre-training for detectors, on MMEngine.

``import mmcrosscl`` does not import torch or mmcv. The required OpenMMLab packages are checked when
:mod:`mmcrosscl.registry` is imported; see :mod:`mmcrosscl.dependencies`.
"""

from importlib.util import find_spec

from .version import __version__

__all__ = ['__version__', 'pretrain']

if find_spec('mmengine') is not None:
    from mmengine.config.utils import MODULE2PACKAGE

    # MMEngine resolves `_base_ = 'mmcrosscl::…'` only for the packages in this dict.
    MODULE2PACKAGE['mmcrosscl'] = 'mmcrosscl'


def __getattr__(name: str) -> object:
    """Import :func:`mmcrosscl.api.pretrain` when it is used, because it imports torch."""
    if name != 'pretrain':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from .api import pretrain

    return pretrain
