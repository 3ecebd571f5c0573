import hashlib

import pytest
from PIL import Image

from mmcrosscl.datasets.demo.photos import SOURCES, write_demo_photos
from mmcrosscl.errors import InputError


def digest(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob('*.jpg')
    }


def test_photos_are_varied_and_equal_for_equal_seeds(tmp_path):
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        write_demo_photos(tmp_path / name, count=45, seed=seed)
    first, again, other = (digest(tmp_path / name) for name in 'abc')
    assert len(first) == 45 and len(set(first.values())) == 45
    assert first == again
    assert not set(first.values()) & set(other.values())
    assert {name.split('/')[0] for name in first} == {s.partition('.')[0] for s in SOURCES}
    sizes = {Image.open(tmp_path / 'a' / name).size for name in first}
    assert len(sizes) > 30 and all(max(size) <= 320 and min(size) >= 80 for size in sizes)


def test_an_existing_folder_is_not_changed(tmp_path):
    (tmp_path / 'mine.txt').write_text('x')
    with pytest.raises(InputError, match='exists; remove it'):
        write_demo_photos(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


def test_a_failure_leaves_no_files(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError('disk full')

    monkeypatch.setattr(Image.Image, 'save', fail)
    with pytest.raises(OSError, match='disk full'):
        write_demo_photos(tmp_path / 'photos', count=3)
    assert list(tmp_path.iterdir()) == []
