"""The OpenMMLab packages that mmcrosscl needs, and a check that they are installed."""

from importlib import metadata
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import NamedTuple

from packaging.version import Version

from .version import __version__


class Requirement(NamedTuple):
    """A package: names of its distributions, and supported versions, oldest <= version < newest."""

    distributions: tuple[str, ...]
    oldest: str
    newest: str


# maps import names to requirements
REQUIRED = {
    'mmengine': Requirement(('onedl-mmengine', 'mmengine'), '0.10.8', '1.0'),
    'mmcv': Requirement(('onedl-mmcv', 'mmcv'), '2.3.0', '2.4'),
    'mmdet': Requirement(('onedl-mmdetection', 'mmdet'), '3.5.0', '4.0'),
    'mmpretrain': Requirement(('onedl-mmpretrain', 'mmpretrain'), '1.3.0', '2.0'),
}


def installed(distributions: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the name and version of the first installed distribution, or None."""
    for name in distributions:
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def has_compiled_ops() -> bool:
    """Return whether mmcv has its extension module, without importing mmcv or torch."""
    mmcv = find_spec('mmcv')
    return mmcv is not None and bool(PathFinder.find_spec('_ext', mmcv.submodule_search_locations))


def problems() -> list[str]:
    """Return one sentence, with the fix, for each package that is missing or not supported."""
    found = []
    for name, (distributions, oldest, newest) in REQUIRED.items():
        have = installed(distributions)
        how = (
            'MMCV_WITH_OPS=1 pip install --no-build-isolation' if name == 'mmcv' else 'pip install'
        )
        fix = f'run: {how} "{distributions[0]}>={oldest},<{newest}"'
        if have is None:
            found.append(f'mmcrosscl needs {name}, which is not installed; {fix}')
        elif not Version(oldest) <= Version(have[1]) < Version(newest):
            found.append(
                f'mmcrosscl {__version__} needs {name} >={oldest},<{newest}, but {have[1]} is '
                f'installed; {fix}'
            )
    if not found and not has_compiled_ops():
        found.append(
            'mmcv is installed without its compiled ops, which region pooling needs; reinstall '
            'mmcv with: MMCV_WITH_OPS=1 pip install --no-build-isolation --force-reinstall '
            'onedl-mmcv'
        )
    return found


def check_requirements() -> None:
    """Raise an ImportError with the first sentence of :func:`problems`, if any."""
    for problem in problems():
        raise ImportError(problem)
