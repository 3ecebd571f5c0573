"""The command `mmcrosscl env`."""

from importlib import metadata

import pytest
import torch

from mmcrosscl import dependencies, environment
from mmcrosscl.devices import check_device
from mmcrosscl.errors import InputError


def test_the_output_contains_versions_distributions_ops_and_precision(command):
    done = command('env')
    assert done.status == 0 and 'nothing to fix' in done.out
    rows = dict(line.split('  ', 1) for line in done.out.splitlines() if '  ' in line)
    for name in ('mmcv', 'mmdet'):
        distribution = dependencies.installed(name)[0].distribution
        assert rows[name].strip() == f'{metadata.version(distribution)} ({distribution})'
    assert torch.__version__ in rows['torch']
    assert rows["mmcv's ops"].split()[0] in ('CPU', 'CUDA')
    assert 'bfloat16' in rows['precision'] or torch.cuda.is_available()


def test_the_output_for_a_broken_installation_says_what_to_fix(command, monkeypatch):
    real = metadata.version
    (detection, _), (engine, _) = map(dependencies.installed, ('mmdet', 'mmengine'))

    def version(name):
        if name in ('onedl-mmdetection', 'mmdet'):
            raise metadata.PackageNotFoundError(name)
        return '9.0.0' if name == engine.distribution else real(name)

    monkeypatch.setattr(metadata, 'version', version)
    done = command('env')
    assert done.status == 1
    fix = f'run: pip install "{detection.distribution}{detection.specifier}"'
    assert f'needs mmdet, which is not installed; {fix}' in done.out
    needed = f'{engine.distribution} {engine.specifier}'
    assert f'needs {needed}, but 9.0.0 is installed; run: ' in done.out


@pytest.mark.parametrize('has_ops', [False, True])
def test_ops_that_are_missing_or_do_not_load_are_reported(monkeypatch, has_ops):
    monkeypatch.setattr(dependencies, 'has_compiled_ops', lambda: has_ops)
    monkeypatch.setattr(environment, 'has_compiled_ops', lambda: has_ops)
    real = environment.import_module

    def import_module(name):
        if name == 'mmcv.ops':
            raise ImportError('undefined symbol: _ZN3c10')
        return real(name)

    monkeypatch.setattr(environment, 'import_module', import_module)
    text, fixes = environment.describe_environment()
    assert len(fixes) == 1
    assert ('without its compiled ops' in fixes[0]) != has_ops
    assert ('compiled for another version of torch; reinstall mmcv with: ' in fixes[0]) == has_ops
    assert ('cannot be loaded: undefined symbol' in text) == has_ops


@pytest.fixture
def unused_gpu(monkeypatch, tmp_path):
    """Imitate a machine with a GPU and a driver that is too old for torch."""
    (tmp_path / 'gpus/0000:01:00.0').mkdir(parents=True)
    monkeypatch.setattr(environment, 'NVIDIA_GPUS', str(tmp_path / 'gpus'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)


def test_a_gpu_that_torch_cannot_use_is_an_error(unused_gpu, command, monkeypatch):
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    done = command('env')
    assert done.status == 1 and 'needs a driver for CUDA 13.0, which nvidia-smi' in done.out
    with pytest.raises(InputError, match='has a GPU, but torch cannot use it.*DEVICES=-1 to train'):
        check_device(None)
    monkeypatch.setattr(torch.version, 'cuda', None)
    with pytest.raises(InputError, match='is a build without CUDA'):
        check_device(None)


@pytest.mark.parametrize('devices', ['', '-1'])
def test_a_hidden_gpu_is_not_used(unused_gpu, monkeypatch, devices):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', devices)
    check_device(None)
