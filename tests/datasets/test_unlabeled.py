import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image

from mmcrosscl.errors import InputError

PIPELINE = [
    dict(type='mmcrosscl.LoadImage'),
    dict(type='mmpretrain.PackInputs', meta_keys=['img_path']),
]


def build(**settings):
    settings.setdefault('pipeline', PIPELINE)
    return DATASETS.build(dict(type='mmcrosscl.UnlabeledDataset', **settings))


def write(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(path)


def names(dataset, root):
    found = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    return [path.removeprefix(f'{root}/') for path in found]


def test_images_at_any_depth_are_found_in_order(tmp_path):
    for name in ('b.png', 'a/x.JPG', 'a/b/c/d/y.webp', 'a b, c=[1]/z.tiff'):
        write(tmp_path / name)
    (tmp_path / 'notes.txt').write_text('no image')
    write(tmp_path / '.thumbnails/t.png')
    write(tmp_path / '._mac.png')
    os.mkfifo(tmp_path / 'pipe.png')
    dataset = build(data_root=str(tmp_path))
    assert names(dataset, tmp_path) == ['a b, c=[1]/z.tiff', 'a/b/c/d/y.webp', 'a/x.JPG', 'b.png']
    assert dataset[0]['inputs'].shape == (3, 4, 5)


def test_links_are_followed_and_may_form_a_cycle(tmp_path):
    write(tmp_path / 'elsewhere/a.png')
    write(tmp_path / 'root/b.png')
    (tmp_path / 'root/link').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere/back').symlink_to(tmp_path / 'root')
    (tmp_path / 'root/dangling').symlink_to(tmp_path / 'gone')
    dataset = build(data_root=str(tmp_path / 'root'))
    assert names(dataset, tmp_path / 'root') == ['b.png', 'link/a.png']


def test_a_list_selects_the_images(tmp_path):
    for name in ('train/a.png', 'train/b.png', 'train/c.png'):
        write(tmp_path / name)
    (tmp_path / 'list.txt').write_text('c.png\na.png\n\n')
    dataset = build(data_root=str(tmp_path), data_prefix='train', ann_file='list.txt')
    assert names(dataset, tmp_path) == ['train/c.png', 'train/a.png']
    of_paths = build(data_root=tmp_path, data_prefix='train', ann_file=Path('list.txt'))
    assert names(of_paths, tmp_path) == ['train/c.png', 'train/a.png']


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=f'image folder {tmp_path}/gone/? does not exist; set'):
        build(data_root=str(tmp_path / 'gone'))


def test_a_file_instead_of_a_folder_is_named(tmp_path):
    write(tmp_path / 'a.png')
    with pytest.raises(InputError, match='a.png/? is a file; set'):
        build(data_root=str(tmp_path / 'a.png'))


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(InputError, match='image list .*list.txt does not exist'):
        build(data_root=str(tmp_path), ann_file='list.txt')


def test_a_folder_without_images_is_named(tmp_path):
    (tmp_path / 'notes.txt').write_text('no image')
    with pytest.raises(InputError, match=f'{tmp_path}.* contains no images .*set data_root to'):
        build(data_root=str(tmp_path))


def test_a_broken_image_is_replaced_and_recorded(tmp_path):
    for i in range(8):
        write(tmp_path / f'{i}.png', i)
    (tmp_path / '3.png').write_bytes(b'')
    (tmp_path / '5.png').write_bytes(b'text')
    dataset = build(data_root=str(tmp_path))
    np.random.seed(0)
    good = dataset[2]
    assert 'skipped_images' not in good['data_samples']
    for _ in range(10):
        sample = dataset[3]
        skipped = sample['data_samples'].skipped_images
        assert skipped[0][0] == str(tmp_path / '3.png')
        assert skipped[0][1] == 'not an image in a format that Pillow supports'
        assert sample['data_samples'].img_path not in (path for path, _ in skipped)


def test_a_broken_image_is_replaced_without_a_pack_transform(tmp_path):
    write(tmp_path / 'a.png')
    (tmp_path / 'b.png').write_bytes(b'text')
    dataset = build(data_root=str(tmp_path), pipeline=[dict(type='mmcrosscl.LoadImage')])
    assert dataset[1]['img_path'] == str(tmp_path / 'a.png')


def test_the_error_for_a_folder_of_broken_images_names_one_of_them(tmp_path):
    for i in range(4):
        (tmp_path / f'{i}.png').write_bytes(b'text')
    with pytest.raises(InputError, match=r'5 images in a row cannot be read, the last one .*\.png'):
        build(data_root=str(tmp_path), max_refetch=4)[0]
