import subprocess
import sys
from importlib import metadata

import pytest

import mmcrosscl
from mmcrosscl.errors import BrokenImageError, InputError, sentence


def test_a_wrong_version_is_named_with_the_mend(monkeypatch):
    real = metadata.version
    monkeypatch.setattr(
        metadata, 'version', lambda name: '1.0.0' if name == 'onedl-mmdetection' else real(name)
    )
    with pytest.raises(ImportError, match=r'needs mmdet >=3.5.0,<4.0, but 1.0.0 is installed; run'):
        mmcrosscl.check_requirements()


def test_a_missing_package_is_named_with_the_mend(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, 'version', version)
    with pytest.raises(ImportError, match='needs mmengine, which is not installed; run: pip'):
        mmcrosscl.check_requirements()


def test_mmcv_without_ops_is_named_with_the_mend(monkeypatch):
    monkeypatch.setattr(mmcrosscl, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='without its compiled ops'):
        mmcrosscl.check_requirements()


@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain', 'mmdet'])
def test_components_resolve_from_other_projects_without_an_import(scope):
    code = (
        f'from {scope}.registry import DATASETS, HOOKS, MODELS, TRANSFORMS\n'
        'for registry, name in ((MODELS, "CrossCL"), (MODELS, "CrossCLNeck"),\n'
        '                       (MODELS, "CrossCLHead"), (MODELS, "InfoNCELoss"),\n'
        '                       (DATASETS, "UnlabeledDataset"), (HOOKS, "MultiScaleHook"),\n'
        '                       (MODELS, "KNNClassifier"), (HOOKS, "PretrainedHook"),\n'
        '                       (HOOKS, "SkippedImagesHook"), (TRANSFORMS, "LoadImage"),\n'
        '                       (TRANSFORMS, "TwoCrops"), (TRANSFORMS, "RandomGaussianBlur"),\n'
        '                       (TRANSFORMS, "RandomColorJitter"),\n'
        '                       (TRANSFORMS, "RandomGrayscale"),\n'
        '                       (TRANSFORMS, "RegionPairs")):\n'
        '    assert registry.get("mmcrosscl." + name).__name__ == name'
    )
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


def test_sentence_is_the_message_without_a_worker_traceback():
    assert sentence(InputError('x is 3; it must be 4')) == 'x is 3; it must be 4'
    broken = BrokenImageError('a.jpg', 'OSError: image file is truncated')
    assert sentence(broken) == 'cannot read image a.jpg: OSError: image file is truncated'
    wrapped = InputError(
        'Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
        'last):\n  File "x.py", line 1\nmmcrosscl.errors.InputError: 3 images (OSError: cut) end\n'
    )
    assert sentence(wrapped) == '3 images (OSError: cut) end'
