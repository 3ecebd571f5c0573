"""The command `mmcrosscl env`."""

from importlib import metadata

import pytest
import torch

from mmcrosscl import dependencies, environment


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
