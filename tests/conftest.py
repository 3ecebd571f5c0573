"""Runs every test from the project's root."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).parents[1]
os.chdir(ROOT)
# a busy machine is no failure; --hypothesis-profile=anew draws other cases at each run
settings.register_profile('anew', deadline=None)
settings.register_profile('same', deadline=None, derandomize=True)
settings.load_profile('same')


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason='needs a CUDA GPU')
        for item in items:
            if item.get_closest_marker('gpu'):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
