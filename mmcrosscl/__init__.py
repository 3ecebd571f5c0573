"""CrossCL: cross-stage regional contrastive pre-training for detectors, on MMEngine."""

from importlib import metadata
from importlib.util import find_spec

from packaging.version import Version

from .version import __version__

__all__ = ['__version__']

# import name: (the distributions that provide it, oldest release that works, first that may not)
REQUIRED = {
    'mmengine': (('onedl-mmengine', 'mmengine'), '0.10.8', '1.0'),
    'mmcv': (('onedl-mmcv', 'mmcv'), '2.3.0', '2.4'),
    'mmdet': (('onedl-mmdetection', 'mmdet'), '3.5.0', '4.0'),
    'mmpretrain': (('onedl-mmpretrain', 'mmpretrain'), '1.3.0', '2.0'),
}


def _installed_version(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def check_requirements() -> None:
    """Raise ImportError, one sentence with the mend, unless the mm* packages fit this release."""
    for name, (distributions, oldest, newest) in REQUIRED.items():
        version = _installed_version(distributions)
        how = (
            'MMCV_WITH_OPS=1 pip install --no-build-isolation' if name == 'mmcv' else 'pip install'
        )
        mend = f'run: {how} "{distributions[0]}>={oldest},<{newest}"'
        if version is None:
            raise ImportError(f'mmcrosscl needs {name}, which is not installed; {mend}')
        if not Version(oldest) <= Version(version) < Version(newest):
            raise ImportError(
                f'mmcrosscl {__version__} needs {name} >={oldest},<{newest}, but {version} is '
                f'installed; {mend}'
            )
    if find_spec('mmcv._ext') is None:
        raise ImportError(
            'mmcv is installed without its compiled ops, which region pooling needs; reinstall it '
            'with: MMCV_WITH_OPS=1 pip install --no-build-isolation --force-reinstall onedl-mmcv'
        )


check_requirements()

from mmengine.config.utils import MODULE2PACKAGE  # noqa: E402

# whose configs may be inherited as `_base_ = 'mmcrosscl::…'`
MODULE2PACKAGE['mmcrosscl'] = 'mmcrosscl'
