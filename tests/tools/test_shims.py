"""The scripts with OpenMMLab's names run the command `mmcrosscl`."""

import runpy
import subprocess
import sys

import pytest

from mmcrosscl import cli


@pytest.mark.parametrize('verb', ['train', 'test'])
def test_the_python_scripts_call_main_with_their_verb(verb, monkeypatch):
    calls = []
    monkeypatch.setattr(cli, 'main', lambda arguments: calls.append(arguments) or 5)
    monkeypatch.setattr(sys, 'argv', [f'tools/{verb}.py', 'x.py', '--work-dir', 'a b'])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(f'tools/{verb}.py', run_name='__main__')
    assert calls == [[verb, 'x.py', '--work-dir', 'a b']] and caught.value.code == 5


def test_dist_train_calls_the_command_with_its_arguments(tmp_path, monkeypatch):
    python = tmp_path / 'python'
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 75\n')
    python.chmod(0o755)
    monkeypatch.setenv('PYTHON', str(python))
    command = ['tools/dist_train.sh', 'x.py', '8', '--work-dir', 'a b', '--resume']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 75
    assert done.stdout.splitlines() == [
        '-m', 'mmcrosscl', 'train', 'x.py', '--gpus', '8', '--work-dir', 'a b', '--resume',
    ]  # fmt: skip


@pytest.mark.parametrize('script', ['tools/dist_train.sh', 'tools/slurm_train.sh'])
def test_the_launchers_print_their_usage(script):
    done = subprocess.run([script], capture_output=True, text=True)
    assert done.returncode == 2 and f'usage: {script} ' in done.stderr
