"""What several command lines are tried on."""

import pytest

from mmcrosscl.datasets.demo.photos import write_demo_photos


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'photos'
    write_demo_photos(folder, count=16)
    return folder
