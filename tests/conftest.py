"""Settings and fixtures of all tests, which run from the root of the repository."""

import fcntl
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from mmengine.registry import DefaultScope

from mmcrosscl.datasets.demo import write_demo_photos
from tests import hosts, slurm

ROOT = Path(__file__).parents[1]
os.chdir(ROOT)

if 'PYTEST_XDIST_WORKER' in os.environ:
    # The xdist workers share the cores, so each one uses one thread. Subprocesses of tests read the
    # environment variable.
    torch.set_num_threads(1)
    os.environ['OMP_NUM_THREADS'] = '1'

# Concurrent test runs would share a database, and a busy machine may exceed any deadline.
settings.register_profile('same', deadline=None, database=None, derandomize=True)
# --hypothesis-profile=anew tests different examples in each run
settings.register_profile('anew', deadline=None, database=None)
settings.load_profile('same')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest tests run first, so that no worker starts a long test at the end. Tests of equal
    # length are mixed, so that tests that wait for subprocesses run next to tests that compute.
    items.sort(key=_rank)
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason='needs a CUDA GPU')
        for item in items:
            if item.get_closest_marker('gpu'):
                item.add_marker(skip)
    for marker, module in dict(slurm=slurm, hosts=hosts).items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and (reason := module.reason_to_skip()):
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


def _rank(item: pytest.Item) -> tuple[int, int]:
    seconds = max([(*mark.args, 5)[0] for mark in item.iter_markers('slow')], default=0)
    return -seconds, zlib.crc32(item.nodeid.encode()) if seconds else 0


@pytest.fixture(scope='session', autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Set a temporary folder for the indexes of images, also for subprocesses."""
    folder = tmp_path_factory.mktemp('cache')
    os.environ['MMCROSSCL_CACHE'] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def default_scope() -> Iterator[None]:
    """Undo a test's changes of MMEngine's default scope, from which later tests would build."""
    # MMEngine has no function that removes a scope
    instances = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict = instances


@pytest.fixture(scope='session')
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 16 photographs, for tests of commands and launchers."""
    folder = tmp_path_factory.mktemp('data') / 'photos'
    write_demo_photos(folder, count=16)
    return folder


@pytest.fixture(scope='session')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the installed wheel, which all xdist workers share."""
    folder = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        folder = folder.parent
    with open(folder / 'wheel.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / 'site').exists():
            _install(folder / 'source', folder / 'partial')
            (folder / 'partial').rename(folder / 'site')
    return folder / 'site'


def _install(source: Path, target: Path) -> None:
    skip = ('.git', '.venv', 'data', 'work_dirs', 'build', '*.egg-info', '__pycache__', '.*_cache')
    shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(*skip))
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-build-isolation']
    # Python compiles a module when a test imports it
    subprocess.run([*pip, '--no-compile', '--target', target, source], check=True)
    shutil.rmtree(source)
