import numpy as np
import pytest
from PIL import Image

from mmcrosscl.datasets import UnlabeledDataset
from mmcrosscl.detectors import choose_view_size


def write(folder, *sizes):
    for number, size in enumerate(sizes):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(folder / f'{number}.png')
    return UnlabeledDataset(data_root=str(folder))


@pytest.mark.parametrize(
    'size, expected',
    [
        ((375, 500), 224),
        ((1080, 1920), 224),
        ((192, 192), 96),
        # the shorter side
        ((250, 2000), 128),
        ((28, 28), 96),
    ],
)
def test_the_published_ratio_to_the_image(tmp_path, size, expected):
    assert choose_view_size(write(tmp_path, size)) == expected


def test_the_median_of_the_images_counts(tmp_path):
    assert (
        choose_view_size(write(tmp_path, (192, 192), (192, 300), (40, 40), (9, 9), (999, 999)))
        == 96
    )


def test_unreadable_files_are_ignored(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'no image')
    # Pillow raises a ValueError for its header
    (tmp_path / 'b.pgm').write_bytes(b'P5\n')
    assert choose_view_size(UnlabeledDataset(data_root=str(tmp_path))) == 224
    assert choose_view_size(write(tmp_path, (192, 192))) == 96


def test_images_of_a_large_dataset_are_sampled(tmp_path, monkeypatch):
    opened = []
    read = Image.open
    monkeypatch.setattr(Image, 'open', lambda path: opened.append(path) or read(path))
    write(tmp_path, *[(10, 10)] * 240, *[(400, 400)] * 260)
    assert choose_view_size(UnlabeledDataset(data_root=str(tmp_path))) == 224
    assert len(opened) == 200
