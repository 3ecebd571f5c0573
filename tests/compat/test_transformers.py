import os
import subprocess
import sys

import pytest


@pytest.fixture
def transformers(tmp_path):
    """Return a function that runs Python code beside a transformers with a `pytorch_utils.py`."""
    info = tmp_path / 'transformers-5.17.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: transformers\nVersion: 5.17.0\n')
    package = tmp_path / 'transformers'
    package.mkdir()
    (package / '__init__.py').touch()

    def run(code, pytorch_utils):
        (package / 'pytorch_utils.py').write_text(pytorch_utils)
        paths = os.pathsep.join([str(tmp_path), os.getcwd()])
        return subprocess.run(
            [sys.executable, '-c', code],
            env={**os.environ, 'PYTHONPATH': paths},
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize('module', ['models', 'engine', 'structures'])
def test_mmpretrain_is_imported_beside_transformers_5(transformers, module):
    done = transformers(f'import mmcrosscl.{module}', pytorch_utils='')
    assert done.returncode == 0, done.stderr


def test_mmpretrain_alone_cannot_be_imported_beside_transformers_5(transformers):
    assert transformers('import mmpretrain.models', pytorch_utils='').returncode == 1


def test_metadata_of_usable_transformers_are_found_and_the_function_is_restored(transformers):
    code = """
from importlib import metadata
from mmcrosscl.compat.transformers import without_unusable_transformers
original = metadata.distribution
with without_unusable_transformers():
    try:
        print(metadata.distribution('transformers').version)
    except metadata.PackageNotFoundError:
        print('hidden')
    assert metadata.distribution('numpy').version
assert metadata.distribution is original
"""
    usable = 'def find_pruneable_heads_and_indices(): ...'
    assert transformers(code, usable).stdout == '5.17.0\n'
    assert transformers(code, '').stdout == 'hidden\n'
