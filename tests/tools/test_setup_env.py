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


@pytest.fixture(autouse=True)
def defined_environment(monkeypatch, tmp_path_factory):
    """Unset the variables of the script, which `make test` may have set, and provide disk space."""
    for name in ('STACK', 'VENV', 'PYTHON', 'CUDA', 'MMCV_INDEX', 'CONSTRAINTS'):
        monkeypatch.delenv(name, raising=False)
    df = script(
        tmp_path_factory.mktemp('bin') / 'df', 'echo header\necho "disk 9 9 99999999 9 /"\n'
    )
    monkeypatch.setenv('PATH', os.path.dirname(df), prepend=os.pathsep)


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
    message = f'Python 3.12 or 3.11 or 3.13: {old} is 3.9; choose another interpreter: make PYTHON='
    assert message in done.stderr


def test_an_unknown_stack_is_reported(tmp_path):
    done = setup(tmp_path, STACK='mine')
    assert done.returncode == 1
    assert done.stderr == '[setup] error: STACK is mine; set it to onedl or openmmlab\n'


def test_a_full_disk_is_reported(tmp_path):
    script(tmp_path / 'bin/df', 'echo header\necho "disk 9 9 2097152 9 /"\n')
    done = setup(tmp_path, PATH=f'{tmp_path}/bin:{os.environ["PATH"]}')
    assert done.returncode == 1
    assert 'missing: disk: 10 GB are needed' in done.stderr and 'but 2 GB are free' in done.stderr


@pytest.fixture
def fake(tmp_path):
    """Run the script with a fake Python, which notes its arguments and installs nothing.

    Its torch is 2.12.0 for CUDA 13.0. ``answers`` are lines of a shell's `case`, which come first.
    """
    headers = tmp_path / 'include'
    headers.mkdir()
    (headers / 'Python.h').touch()

    def fake(*answers, gpu=0, run=setup, **environment):
        python = script(
            tmp_path / 'fake/python',
            f'echo "$*" >> {tmp_path}/calls\n'
            'folder=$(echo "$*" | sed -n "s/.*-w \\([^ ]*\\) .*/\\1/p")\n'
            'case "$*" in\n' + '\n'.join(answers) + '\n'
            '*version_info*) echo 3.12;;\n'
            f'*get_compiling*) cat {tmp_path}/ops 2>/dev/null || echo none;;\n'
            f'*sysconfig*) echo {headers};;\n'
            f'"-m venv "*) mkdir -p $3/bin; cp $0 $3/bin/python; cp $0 $3/bin/pip;;\n'
            f'*"cache dir"*) echo {tmp_path}/cache;;\n'
            f'*is_available*) echo {gpu};;\n'
            '*torch.__version__*) echo 2.12.0 13.0;;\n'
            f'*--index-url*) [ -n "$WHEEL" ] && echo $WHEEL > {tmp_path}/ops;;\n'
            f'*" wheel "*) mkdir -p $folder; touch $folder/x.whl; echo cpu > {tmp_path}/ops;;\n'
            '*importlib.metadata*) echo 4.12;;\n'
            'esac\n',
        )
        for copy in (tmp_path / '.venv/bin').glob('p*'):
            shutil.copy(python, copy)
        settings = dict(PYTHON=python, CUDA='', TORCH_CUDA_ARCH_LIST='', MMCV_INDEX='http://index')
        return run(tmp_path, **settings | environment)

    return fake


def calls(folder):
    return (folder / 'calls').read_text()


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
def test_missing_cuda_requirements_are_reported(tmp_path, fake, gpu, nvcc, environment, message):
    release = f'echo "Cuda compilation tools, release {nvcc}, V{nvcc}"' if nvcc else 'exit 127'
    script(tmp_path / 'bin/nvcc', f'{release}\n')
    path = f'{tmp_path}/bin:{os.environ["PATH"]}'
    done = fake(gpu=gpu, PATH=path, **environment)
    assert done.returncode == 1
    assert re.search(message, done.stderr)


def test_a_wheel_of_the_index_is_installed(tmp_path, fake):
    done = fake(WHEEL='cpu')
    assert 'Asking http://index for compiled ops of mmcv (2/4)' in done.stdout, done.stderr
    assert 'Compiling' not in done.stdout and ' wheel ' not in calls(tmp_path)
    (line,) = [line for line in calls(tmp_path).splitlines() if '--index-url' in line]
    assert '--index-url http://index/cpu-torch2120/simple onedl-mmcv>=2.3.6,<2.4' in line
    # nothing else is taken from there, and no source distribution
    assert '--no-deps' in line and '--only-binary :all:' in line and '--timeout 5' in line
    assert (tmp_path / '.venv/.ready').exists() and not (tmp_path / '.venv/.installing').exists()


def test_a_gpu_needs_a_wheel_for_the_cuda_of_torch(tmp_path, fake):
    done = fake(gpu=1, WHEEL='cuda')
    assert '--index-url http://index/cu130-torch2120/simple' in calls(tmp_path)
    assert (tmp_path / '.venv/.ready').exists(), done.stderr


@pytest.mark.parametrize('index', ['http://index', ''])
def test_ops_are_compiled_without_a_wheel_and_compiled_once(tmp_path, fake, index):
    done = fake(MMCV_INDEX=index)
    assert "Compiling mmcv's ops for the CPU (2/4)" in done.stdout, done.stderr
    assert ('Asking' in done.stdout) == bool(index) == ('--index-url' in calls(tmp_path))
    (wheel,) = (tmp_path / 'cache/mmcrosscl').glob('*/*.whl')
    # the folder distinguishes what pip's own cache does not
    assert wheel.parent.name == 'onedl-mmcv==2.3.6-torch2.12.0-py3.12-cpu-native'
    (tmp_path / 'ops').unlink()
    (tmp_path / 'calls').unlink()
    shutil.rmtree(tmp_path / 'tools')
    done = fake(f'*{wheel}*) echo cpu > {tmp_path}/ops;;', MMCV_INDEX=index)
    assert ' wheel ' not in calls(tmp_path) and (tmp_path / '.venv/.ready').exists(), done.stderr


def test_an_interrupted_environment_is_created_again(tmp_path, fake):
    (tmp_path / '.venv').mkdir()
    for name in ('.installing', 'half'):
        (tmp_path / '.venv' / name).touch()
    done = fake(WHEEL='cpu')
    assert 'The last set-up was interrupted: .venv is created again' in done.stdout
    assert not (tmp_path / '.venv/half').exists()
    assert (tmp_path / '.venv/.ready').exists(), done.stderr


def test_an_environment_of_another_python_is_kept(tmp_path, fake):
    script_of_venv = '*version_info*) case $0 in *.venv*) echo 3.11;; *) echo 3.12;; esac;;'
    fake(script_of_venv, WHEEL='cpu')
    shutil.rmtree(tmp_path / 'tools')
    done = fake(script_of_venv, WHEEL='cpu')
    assert done.returncode == 1
    assert done.stderr == (
        '[setup] error: .venv has Python 3.11, not 3.12; remove it: rm -r .venv\n'
    )


@pytest.mark.parametrize('constraints', ['1', '0'])
def test_versions_are_pinned(tmp_path, fake, constraints):
    fake(WHEEL='cpu', CONSTRAINTS=constraints)
    pinned = '-c requirements/constraints/onedl-py3.12.txt'
    installs = [x for x in calls(tmp_path).splitlines() if ' install ' in x and ' -r ' in x]
    assert len(installs) == 2 and all((pinned in x) == (constraints == '1') for x in installs)


@pytest.mark.parametrize('words', [['help'], []])
def test_make_prints_its_targets(words):
    done = subprocess.run(['make', *words], capture_output=True, text=True)
    assert done.returncode == 0 and 'make demo [DATA=/my/photos]' in done.stdout


def test_a_terminal_shows_the_progress_of_a_step(tmp_path, fake):
    """A step shows the last line of its output, or a bar of the files that are compiled."""

    def run(folder, **environment):
        (folder / 'tools').mkdir()
        shutil.copy('tools/setup_env.sh', folder / 'tools')
        words = [f'{name}={value}' for name, value in environment.items()]
        return run_on_terminal(['env', *words, str(folder / 'tools/setup_env.sh')])

    status, output = fake('*" wheel "*) echo "  [42/84] c++"; sleep 2.5; exit 1;;', run=run)
    assert status == 1
    assert re.search(r'\[setup\]   0:0\d  #{15}-{15} 42/84 files', output)
    lines = screen(output)
    assert not any('#####' in line for line in lines)
    assert '[setup] error: this step failed; its complete output is in .venv/setup.log' in lines
