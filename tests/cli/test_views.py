"""The command `mmcrosscl views`."""

from pathlib import Path

import pytest
from PIL import Image

from tests.training import CONFIG

SMALL = 'train_dataloader.dataset.pipeline.1.scale=64'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    config = Path(CONFIG).resolve()
    monkeypatch.chdir(tmp_path)
    return config


def test_a_figure_is_written(command, folder, photos, tmp_path):
    root = f'train_dataloader.dataset.data_root={photos}'
    done = command('views', folder, '--count', '2', '--cfg-options', root, SMALL)
    assert (done.status, done.out) == (0, 'views.png\n'), done.err
    with Image.open('views.png') as image:
        assert image.format == 'PNG' and image.width > 1000
    # no work dir
    assert [path.name for path in tmp_path.iterdir()] == ['views.png']


@pytest.mark.parametrize(
    'words, message',
    [
        (['--cfg-options', 'train_dataloader.dataset.data_root=absent'], 'absent does not exist'),
        (['--count', '0'], 'count is 0'),
        (['--out', '/dev/null/views.png'], 'cannot write /dev/null/views.png: Not a directory'),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    command, folder, photos, tmp_path, words, message
):
    if '--cfg-options' not in words:
        words = [*words, '--cfg-options', f'train_dataloader.dataset.data_root={photos}', SMALL]
    done = command('views', folder, *words)
    assert done.status == 1 and done.last.startswith('error: ') and message in done.last
    assert not list(tmp_path.iterdir())
