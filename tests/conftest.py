"""Settings of all tests: they run from the project's root, in any number of processes."""

import os
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from mmcrosscl.datasets.demo import write_demo_photos

ROOT = Path(__file__).parents[1]
os.chdir(ROOT)

if 'PYTEST_XDIST_WORKER' in os.environ:
    # the workers share the cores; subprocesses of tests read the variable
    torch.set_num_threads(1)
    os.environ['OMP_NUM_THREADS'] = '1'

# test runs at the same time would share a database; a busy machine may exceed any deadline
settings.register_profile('same', deadline=None, database=None, derandomize=True)
# --hypothesis-profile=anew tries other examples in each run
settings.register_profile('anew', deadline=None, database=None)
settings.load_profile('same')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest first, so that no process is left with one at the end; equally long ones mixed, so
    # that those which wait for processes run next to those which compute.
    items.sort(key=_rank)
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason='needs a CUDA GPU')
        for item in items:
            if item.get_closest_marker('gpu'):
                item.add_marker(skip)


def _rank(item: pytest.Item) -> tuple[int, int]:
    seconds = max([(*mark.args, 5)[0] for mark in item.iter_markers('slow')], default=0)
    return -seconds, zlib.crc32(item.nodeid.encode()) if seconds else 0


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen photographs, for the commands and launchers."""
    folder = tmp_path_factory.mktemp('data') / 'photos'
    write_demo_photos(folder, count=16)
    return folder
