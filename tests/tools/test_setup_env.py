"""tools/setup_env.sh reports what is missing before it writes anything."""

import os
import re
import shutil
import subprocess

import pytest

from tests.terminal import run_on_terminal, screen


def setup(folder, **environment):
    (folder / 'tools').mkdir()
    shutil.copy('tools/setup_env.sh', folder / 'tools')
    return subprocess.run(
        [folder / 'tools/setup_env.sh'], capture_output=True, text=True,
        env={**os.environ, **environment}, timeout=60,
    )  # fmt: skip


def script(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text('#!/bin/sh\n' + text)
    path.chmod(0o755)
    return str(path)


def test_all_missing_requirements_are_reported_at_once(tmp_path):
    done = setup(tmp_path, PYTHON='/no/python', CXX='/no/compiler')
    assert done.returncode == 1
    assert (
        '[setup] missing: Python: /no/python does not run; apt-get install python3' in done.stderr
    )
    assert '[setup] missing: C++17 compiler: /no/compiler does not compile; apt' in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ['tools']


def test_an_old_python_is_reported(tmp_path):
    old = script(tmp_path / 'bin/python', 'echo 3.9\n')
    done = setup(tmp_path, PYTHON=old)
    assert done.returncode == 1
    assert (
        f'Python 3.11 or 3.12: {old} is 3.9; choose another interpreter: make PYTHON='
        in done.stderr
    )


def test_a_full_disk_is_reported(tmp_path):
    script(tmp_path / 'bin/df', 'echo header\necho "disk 9 9 2097152 9 /"\n')
    done = setup(tmp_path, PATH=f'{tmp_path}/bin:{os.environ["PATH"]}')
    assert done.returncode == 1
    assert 'missing: disk: 10 GB are needed' in done.stderr and 'but 2 GB are free' in done.stderr


def fake_environment(folder, gpu):
    """Create a .venv whose pip does nothing and whose torch was built for CUDA 13."""
    (folder / '.venv').mkdir()
    script(folder / '.venv/bin/pip', 'true\n')
    script(
        folder / '.venv/bin/python',
        f'case "$*" in *is_available*) echo {gpu};; *version.cuda*) echo 13.0;; esac\n',
    )


@pytest.mark.parametrize(
    'gpu, nvcc, environment, message',
    [
        (1, None, {}, 'need the nvcc of torch.s CUDA 13.0, found: no nvcc; install that toolkit'),
        (1, '12.4', {}, 'need the nvcc of torch.s CUDA 13.0, found: 12.4; .*make setup CUDA=0'),
        (
            0,
            '13.0',
            dict(CUDA='1'),
            'no GPU is visible; set the architecture .*TORCH_CUDA_ARCH_LIST=9.0',
        ),
    ],
)
def test_missing_cuda_requirements_are_reported(tmp_path, gpu, nvcc, environment, message):
    fake_environment(tmp_path, gpu)
    release = f'echo "Cuda compilation tools, release {nvcc}, V{nvcc}"' if nvcc else 'exit 127'
    script(tmp_path / 'bin/nvcc', f'{release}\n')
    path = f'{tmp_path}/bin:{os.environ["PATH"]}'
    environment = dict(CUDA='', TORCH_CUDA_ARCH_LIST='', PATH=path) | environment
    done = setup(tmp_path, **environment)
    assert done.returncode == 1
    assert re.search(message, done.stderr)


@pytest.mark.parametrize('words', [['help'], []])
def test_make_prints_its_targets(words):
    done = subprocess.run(['make', *words], capture_output=True, text=True)
    assert done.returncode == 0 and 'make demo [DATA=/my/photos]' in done.stdout


def test_a_terminal_shows_the_progress_of_a_step(tmp_path):
    """A step shows the last line of its output, or a bar of the files that are compiled."""
    fake_environment(tmp_path, gpu=0)
    pip = 'case "$*" in *mmcv.txt) echo "  [42/84] c++"; sleep 2.5;; *pip\\ *) echo Collecting x; esac'
    script(
        tmp_path / '.venv/bin/python',
        f'case "$*" in *is_available*) echo 0;; *ops*) echo none;; *) {pip};; esac\n',
    )
    (tmp_path / 'tools').mkdir()
    shutil.copy('tools/setup_env.sh', tmp_path / 'tools')
    status, output = run_on_terminal([str(tmp_path / 'tools/setup_env.sh')])
    assert status == 1
    assert re.search(r'\[setup\]   0:0\d  #{15}-{15} 42/84 files', output)
    # the line with the progress is removed
    assert not any('42/84' in line for line in screen(output))
