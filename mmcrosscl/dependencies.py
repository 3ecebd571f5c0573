"""The OpenMMLab packages that mmcrosscl needs, and a check that they are installed."""

from importlib import metadata
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import NamedTuple

from packaging.version import Version

from .version import __version__


class Requirement(NamedTuple):
    """A distribution of a package, and its supported versions, oldest <= version < newest."""

    distribution: str
    oldest: str
    newest: str

    @property
    def specifier(self) -> str:
        return f'>={self.oldest},<{self.newest}'


# Maps import names to the distributions of the two families: the maintained continuations and the
# originals of OpenMMLab. They share the import names, so only one of them can be installed.
REQUIRED = {
    'mmengine': (
        Requirement('onedl-mmengine', '0.10.8', '1.0'),
        Requirement('mmengine', '0.10.7', '1.0'),
    ),
    'mmcv': (
        Requirement('onedl-mmcv', '2.3.0', '2.4'),
        Requirement('mmcv', '2.1.0', '2.2'),
    ),
    'mmdet': (
        Requirement('onedl-mmdetection', '3.5.0', '4.0'),
        Requirement('mmdet', '3.3.0', '4.0'),
    ),
    'mmpretrain': (
        Requirement('onedl-mmpretrain', '1.3.0', '2.0'),
        Requirement('mmpretrain', '1.2.0', '2.0'),
    ),
}


def installed(name: str) -> tuple[Requirement, str] | None:
    """Return the distribution of a package that is installed, and its version, or None."""
    for requirement in REQUIRED[name]:
        try:
            return requirement, metadata.version(requirement.distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def family() -> int:
    """Return the index in :data:`REQUIRED` of the family that is installed, by default 0."""
    for name, requirements in REQUIRED.items():
        if (have := installed(name)) is not None:
            return requirements.index(have[0])
    return 0


def has_compiled_ops() -> bool:
    """Return whether mmcv has its extension module, without importing mmcv or torch."""
    mmcv = find_spec('mmcv')
    return mmcv is not None and bool(PathFinder.find_spec('_ext', mmcv.submodule_search_locations))


def problems() -> list[str]:
    """Return one sentence, with the fix, for each package that is missing or not supported."""
    found = []
    for name, requirements in REQUIRED.items():
        have = installed(name)
        wanted = requirements[family()] if have is None else have[0]
        fix = f'run: {_command(name)} "{wanted.distribution}{wanted.specifier}"'
        if have is None:
            found.append(f'mmcrosscl needs {name}, which is not installed; {fix}')
        elif not Version(wanted.oldest) <= Version(have[1]) < Version(wanted.newest):
            found.append(
                f'mmcrosscl {__version__} needs {wanted.distribution} {wanted.specifier}, but '
                f'{have[1]} is installed; {fix}'
            )
    if not found and not has_compiled_ops():
        found.append(
            'mmcv is installed without its compiled ops, which region pooling needs; reinstall '
            f'mmcv with: {_command("mmcv")} --force-reinstall --no-deps '
            f'{REQUIRED["mmcv"][family()].distribution}'
        )
    return found


def _command(name: str) -> str:
    return 'MMCV_WITH_OPS=1 pip install --no-build-isolation' if name == 'mmcv' else 'pip install'


def check_requirements() -> None:
    """Raise an ImportError with the first sentence of :func:`problems`, if any."""
    for problem in problems():
        raise ImportError(problem)
