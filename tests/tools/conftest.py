"""Data for the launchers."""

import pytest

from mmcrosscl.datasets.demo import write_demo_photos


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'photos'
    write_demo_photos(folder, count=16)
    return folder
