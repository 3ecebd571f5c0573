"""The command `mmcrosscl scenes`."""

from tests.datasets.demo.test_scenes import needs_packages


@needs_packages
def test_the_dataset_is_written(command, tmp_path):
    folder = tmp_path / 'scenes'
    done = command('scenes', folder, '--unlabeled', '2', '--train', '2', '--test', '1')
    assert done.status == 0 and '2 scenes in unlabeled/' in done.out
    assert done.err == ''
    assert len(list(folder.rglob('*.jpg'))) == 5
