import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from mmcrosscl.datasets.demo.photos import write_demo_photos
from mmcrosscl.engine import SkippedImagesHook, build_runner
from mmcrosscl.errors import InputError
from tests.engine.runs import log_of, tiny_run
from tests.training import tiny_config


def limited(cfg, limit, interval=1):
    cfg.default_hooks.skipped_images.update(interval=interval, limit=limit)
    return cfg


def test_broken_files_are_logged_once_and_counted(tmp_path):
    cfg = limited(tiny_config(tmp_path, epochs=3, images=10, workers=2), 0.5)
    (tmp_path / 'photos/empty.jpg').write_bytes(b'')
    (tmp_path / 'photos/text\t.png').write_bytes(b'text')
    Path(os.fsdecode(os.fsencode(tmp_path) + b'/photos/caf\xe9.jpg')).write_bytes(b'')
    build_runner(cfg).train()
    log = log_of(tmp_path)
    for name in ('empty.jpg', r'text\\x09.png', r'caf\\xe9.jpg'):
        assert (
            len(re.findall(f'Skipped unreadable image .*{name} \\(not an image in a format', log))
            == 1
        )
    assert '; 1 so far.' in log and '; 3 so far.' in log
    assert '3 unreadable image files were skipped in total' in log
    listed = (tmp_path / 'work/broken_images.txt').read_text().splitlines()
    assert (
        len(listed) == 3
        and f'{tmp_path}/photos/empty.jpg\tnot an image in a format that'
        in listed[[line.startswith(f'{tmp_path}/photos/empty') for line in listed].index(True)]
    )

    cfg = limited(tiny_config(tmp_path, epochs=4, images=10), 0.5)
    cfg.resume = True
    build_runner(cfg).train()
    assert 'Skipped unreadable image' not in log_of(tmp_path)
    assert (tmp_path / 'work/broken_images.txt').read_text().splitlines() == listed


def test_intact_images_cause_no_log_line_and_no_list(tmp_path):
    build_runner(tiny_config(tmp_path)).train()
    assert 'readable image' not in log_of(tmp_path)
    assert not (tmp_path / 'work/broken_images.txt').exists()


def test_more_than_the_limit_stops_training_and_names_the_list(tmp_path):
    cfg = limited(tiny_config(tmp_path, epochs=3, images=10), 0.2)
    for i in range(3):
        (tmp_path / f'photos/{i}.jpg').write_bytes(b'text')
    listed = tmp_path / 'work/broken_images.txt'
    message = rf'3 of the \d+ images .* are unreadable, more than the limit of 20%; fix .* {listed}'
    with pytest.raises(InputError, match=message):
        build_runner(cfg).train()
    assert len(listed.read_text().splitlines()) == 3


@pytest.mark.parametrize('remedy', ['fix', 'remove', 'increase the limit', None])
def test_training_can_be_resumed_after_the_limit_was_exceeded(tmp_path, remedy):
    def train(epochs, limit=0.2):
        cfg = limited(tiny_config(tmp_path, epochs, images=10), limit)
        cfg.resume = True
        build_runner(cfg).train()

    train(1)
    contents = {path: path.read_bytes() for path in sorted(tmp_path.rglob('*.jpg'))[:3]}
    for path in contents:
        path.write_bytes(b'text')
    with pytest.raises(InputError, match='more than the limit of 20%.*rerun with --resume'):
        train(3)
    assert not (tmp_path / 'work/epoch_3.pth').exists()
    if remedy is None:
        with pytest.raises(InputError, match='3 of the 10 images .* more than the limit'):
            train(3)
        return
    for path, content in contents.items():
        if remedy == 'fix':
            path.write_bytes(content)
        elif remedy == 'remove':
            path.unlink()
    train(3, 0.5 if remedy == 'increase the limit' else 0.2)
    assert 'resumed epoch: ' in log_of(tmp_path) and (tmp_path / 'work/epoch_3.pth').exists()


@pytest.mark.parametrize('limit', [0, -0.1, 1.1, 10])
def test_an_invalid_limit_is_refused(limit):
    with pytest.raises(InputError, match=f'limit above 0 and at most 1, but got {limit}; set'):
        SkippedImagesHook(limit=limit)


def png(width, height, rows=b''):
    """Return a PNG file whose header declares width × height gray pixels."""

    def chunk(name, data):
        return (
            struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
        )

    head = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    body = chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + body


def write_broken_files(folder, intact: bytes) -> int:
    """Write one file of each type of unreadable image, and return the number of files."""
    noise = np.random.default_rng(0).bytes
    contents = {
        'empty.jpg': b'',
        'text.jpg': b'<html>404 Not Found</html>',
        'noise.jpg': noise(5000),
        'zeros.jpg': bytes(5000),
        'head.jpg': intact[:100],
        'cut.jpg': intact[: len(intact) // 2],
        'no_end.jpg': intact[:-30],
        'text.pgm': b'P5 wide high',
        'head.png': png(10, 10)[:30],
        'no_rows.png': png(10, 10),
        'checksum.png': png(10, 10, bytes(110))[:-20] + b'xxxx' + png(10, 10, bytes(110))[-16:],
        # declares 2.5 gigabytes of pixels
        'bomb.png': png(50_000, 50_000, bytes(10**7)),
        # below the number of pixels at which Pillow raises an error
        'large.png': png(13_000, 13_000, bytes(13_000 * 13_001)),
        'flat.png': png(0, 10),
        'text.webp': b'RIFF\x10\x00\x00\x00WEBPVP8 ',
        'text.tif': b'II*\x00\x08\x00\x00\x00\xff\xff',
        'text.gif': b'GIF89a\xff\xff\xff\xff',
        'text.bmp': b'BM' + bytes(60),
        'text.ppm': b'P6 1000000 1000000 255 ',
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    # a sparse file of 1 TiB, which takes no space on the disk
    with (folder / 'sparse.jpg').open('wb') as file:
        file.truncate(2**40)
    return len(contents) + 1


def test_a_folder_with_five_percent_of_broken_files_of_every_type_trains(tmp_path):
    folder = tmp_path / 'photos'
    write_demo_photos(folder, count=380)
    intact = next(folder.rglob('*.jpg')).read_bytes()
    broken = write_broken_files(folder, intact)
    assert broken == 20
    cfg = tiny_run(tmp_path, length=2, images=400, workers=2)
    cfg.train_dataloader.batch_size = 20
    build_runner(limited(cfg, 0.1)).train()
    log = log_of(tmp_path)
    listed = (tmp_path / 'work/broken_images.txt').read_text().splitlines()
    names = [Path(line.split('\t')[0]).name for line in listed]
    assert len(names) == len(set(names)) == broken
    assert all(line.split('\t')[1] for line in listed)
    assert all(log.count(f'/{name} (') == 1 for name in names)
    assert (tmp_path / 'work/epoch_2.pth').exists()


@pytest.mark.parametrize('name', ['bomb.png', 'large.png', 'sparse.jpg'])
def test_a_decompression_bomb_takes_no_memory(tmp_path, name):
    import resource

    from mmcrosscl.datasets.transforms import LoadImage
    from mmcrosscl.errors import BrokenImageError

    write_broken_files(tmp_path, bytes(1000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BrokenImageError):
        LoadImage()(dict(img_path=str(tmp_path / name)))
    # in kilobytes; the pixels of the smallest decompression bomb take 500 megabytes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
