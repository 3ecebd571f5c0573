"""Requirements, registered components and error messages of the package."""

import re
import subprocess
import sys
from importlib import metadata

import pytest

from mmcrosscl import dependencies
from mmcrosscl.errors import BrokenImageError, InputError, sentence


def test_an_unsupported_version_is_reported_with_the_fix(monkeypatch):
    real = metadata.version
    (wanted, _) = dependencies.installed('mmdet')
    monkeypatch.setattr(
        metadata, 'version', lambda name: '1.0.0' if name == wanted.distribution else real(name)
    )
    message = (
        f'needs {wanted.distribution} {wanted.specifier}, but 1.0.0 is installed; run: pip install '
        f'"{wanted.distribution}{wanted.specifier}"'
    )
    with pytest.raises(ImportError, match=re.escape(message)):
        dependencies.check_requirements()


def test_a_missing_package_is_reported_with_the_fix(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, 'version', version)
    with pytest.raises(ImportError, match='needs mmengine, which is not installed; run: pip'):
        dependencies.check_requirements()


@pytest.mark.parametrize('family', [0, 1])
def test_a_missing_package_is_installed_from_the_family_of_the_others(monkeypatch, family):
    names = [requirements[family] for requirements in dependencies.REQUIRED.values()]
    versions = {wanted.distribution: wanted.oldest for wanted in names}
    missing = dependencies.REQUIRED['mmdet'][family]
    del versions[missing.distribution]

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, 'version', version)
    (problem,) = dependencies.problems()
    assert problem == (
        'mmcrosscl needs mmdet, which is not installed; run: pip install '
        f'"{missing.distribution}{missing.specifier}"'
    )
    versions[missing.distribution] = missing.oldest
    assert dependencies.problems() == []
    versions['mmcv' if family else 'onedl-mmcv'] = '9.0'
    assert len(dependencies.problems()) == 1


def test_mmcv_without_ops_is_reported_with_the_fix(monkeypatch):
    monkeypatch.setattr(dependencies, 'has_compiled_ops', lambda: False)
    with pytest.raises(ImportError, match='without its compiled ops'):
        dependencies.check_requirements()


def test_importing_a_component_fails_if_a_package_is_missing(tmp_path):
    """``import mmcrosscl`` succeeds, and the import of a component raises the error."""
    code = (
        'import sys; sys.modules["mmdet"] = None\n'
        'from importlib import metadata\n'
        'real = metadata.version\n'
        'def version(name):\n'
        '    if name in ("onedl-mmdetection", "mmdet"):\n'
        '        raise metadata.PackageNotFoundError(name)\n'
        '    return real(name)\n'
        'metadata.version = version\n'
        'import mmcrosscl\n'
        'try:\n'
        '    import mmcrosscl.models\n'
        'except ImportError as error:\n'
        '    print(error)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert 'mmcrosscl needs mmdet, which is not installed; run: pip install' in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain', 'mmdet'])
def test_other_projects_resolve_components_without_an_import(scope):
    code = (
        f'from {scope}.registry import DATASETS, HOOKS, MODELS, TRANSFORMS\n'
        'for registry, name in ((MODELS, "CrossCL"), (MODELS, "CrossCLNeck"),\n'
        '                       (MODELS, "CrossCLHead"), (MODELS, "InfoNCELoss"),\n'
        '                       (DATASETS, "UnlabeledDataset"), (HOOKS, "MultiScaleHook"),\n'
        '                       (MODELS, "KNNClassifier"), (HOOKS, "PretrainedHook"),\n'
        '                       (HOOKS, "ResumeHook"), (HOOKS, "NonFiniteHook"),\n'
        '                       (HOOKS, "SkippedImagesHook"), (TRANSFORMS, "LoadImage"),\n'
        '                       (TRANSFORMS, "TwoCrops"), (TRANSFORMS, "RandomGaussianBlur"),\n'
        '                       (TRANSFORMS, "RandomColorJitter"),\n'
        '                       (TRANSFORMS, "RandomGrayscale"),\n'
        '                       (TRANSFORMS, "RegionPairs")):\n'
        '    assert registry.get("mmcrosscl." + name).__name__ == name'
    )
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


def test_sentence_returns_the_message_without_the_worker_traceback():
    assert sentence(InputError('x is 3; it must be 4')) == 'x is 3; it must be 4'
    # a message with a list
    assert sentence(InputError('1 image is wrong:\n  a.jpg')) == '1 image is wrong:\n  a.jpg'
    broken = BrokenImageError('a.jpg', 'OSError: image file is truncated')
    assert sentence(broken) == 'cannot read image a.jpg: OSError: image file is truncated'
    wrapped = InputError(
        'Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
        'last):\n  File "x.py", line 1\nmmcrosscl.errors.InputError: 3 images (OSError: cut) end\n'
    )
    assert sentence(wrapped) == '3 images (OSError: cut) end'


def test_a_folder_of_the_same_name_does_not_hide_the_package(tmp_path):
    """The folder of a clone is such a folder, for commands that run beside it."""
    (tmp_path / 'mmcrosscl').mkdir()
    words = [sys.executable, '-c', 'import mmcrosscl; print(mmcrosscl.__file__)']
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip().endswith('__init__.py')
