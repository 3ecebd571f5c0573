import pickle
import random
import shutil
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from mmcrosscl.datasets import UnlabeledDataset, storage
from mmcrosscl.datasets.transforms import LoadImage
from mmcrosscl.errors import BrokenImageError, InputError, RunError
from tests.datasets.archive_files import png, write_tar, write_zip


def build(folder, **settings):
    return UnlabeledDataset(data_root=str(folder), pipeline=[LoadImage()], **settings)


def contents(dataset, root):
    """Return the paths and the pixel values of all images."""
    samples = [dataset[index] for index in range(len(dataset))]
    return [(s['img_path'].removeprefix(f'{root}/'), int(s['img'][0, 0, 0])) for s in samples]


def test_the_images_of_tar_and_zip_files_are_in_the_order_of_the_archives(tmp_path):
    write_tar(
        tmp_path / '00001.tar',
        {
            '000002.png': png(2),
            '000002.txt': b'caption',
            '000002.json': b'{}',
            'd/000001.png': png(1),
        },
    )
    write_zip(tmp_path / '00000.zip', {'b.PNG': png(3), 'a/ü.png': png(4), 'empty/': b''})
    dataset = build(tmp_path)
    assert contents(dataset, tmp_path) == [
        ('00000.zip/b.PNG', 3),
        ('00000.zip/a/ü.png', 4),
        ('00001.tar/000002.png', 2),
        ('00001.tar/d/000001.png', 1),
    ]


def test_an_archive_can_be_the_root(tmp_path):
    write_tar(tmp_path / 'a.tar', {'./x/1.png': png(1), '2.png': png(2)})
    assert contents(build(tmp_path / 'a.tar'), tmp_path) == [
        ('a.tar/./x/1.png', 1),
        ('a.tar/2.png', 2),
    ]


@pytest.mark.parametrize('form', [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_formats_of_tar_files(tmp_path, form):
    name = 'a' * 60 + '/' + ('b' if form == tarfile.USTAR_FORMAT else 'ä') * 90 + '.png'
    write_tar(tmp_path / 'a.tar', {name: png(7), 'b.png': png(8)}, format=form)
    assert contents(build(tmp_path), tmp_path) == [(f'a.tar/{name}', 7), ('a.tar/b.png', 8)]


def test_archives_beside_images_are_ignored_with_a_warning(tmp_path):
    (tmp_path / 'a.png').write_bytes(png(1))
    write_tar(tmp_path / 'b.tar', {'b.png': png(2)})
    assert contents(build(tmp_path), tmp_path) == [('a.png', 1)]
    assert build(tmp_path).index.settings['ignored_archives'] == 1


def test_links_special_and_hidden_members_are_skipped(tmp_path):
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        for name, kind in dict(
            link=tarfile.SYMTYPE,
            hard=tarfile.LNKTYPE,
            pipe=tarfile.FIFOTYPE,
            device=tarfile.CHRTYPE,
        ).items():
            info = tarfile.TarInfo(f'{name}.png')
            info.type, info.linkname = kind, '/etc/passwd'
            archive.addfile(info)
        for name in ('._a.png', '__MACOSX/._b.png', '.thumbs/c.png', 'good.png'):
            (tmp_path / 'image').write_bytes(png(5))
            archive.add(tmp_path / 'image', name)
    assert contents(build(tmp_path), tmp_path) == [('a.tar/good.png', 5)]


def test_names_that_lead_out_are_names_only(tmp_path):
    (tmp_path / 'archives').mkdir()
    (tmp_path / 'secret.png').write_bytes(png(9))
    write_tar(tmp_path / 'archives/a.tar', {'../secret.png': png(1), '/etc/x.png': png(2)})
    values = [value for _, value in contents(build(tmp_path / 'archives'), tmp_path)]
    # '..' begins with a dot
    assert values == [2]


def test_broken_images_are_replaced(tmp_path):
    write_tar(tmp_path / 'a.tar', {'1.png': png(1), '2.png': png(2)[:30], '3.png': b''})
    dataset = build(tmp_path)
    assert dataset[1]['img_path'].endswith('a.tar/1.png')
    with pytest.raises(BrokenImageError, match='a.tar/2.png'):
        LoadImage()(dataset.get_data_info(1))


def test_an_image_of_too_many_bytes_is_broken(tmp_path):
    write_tar(tmp_path / 'a.tar', {'1.png': bytes(1000)})
    info = build(tmp_path).get_data_info(0)
    with pytest.raises(BrokenImageError, match='more than 8 · max_pixels bytes'):
        LoadImage(max_pixels=100)(info)


def compressed_tar(path):
    with tarfile.open(path, 'w:gz') as archive:
        archive.add(__file__, 'a.png')


def truncated_tar(path):
    write_tar(path, {'1.png': png(1), '2.png': bytes(5000)})
    path.write_bytes(path.read_bytes()[:3000])


def damaged_tar(path):
    write_tar(path, {'1.png': png(1), '2.png': png(2)})
    data = bytearray(path.read_bytes())
    data[1024 + 100] ^= 255
    path.write_bytes(data)


def huge_member(path):
    write_tar(path, {'1.png': png(1)})
    info = tarfile.TarInfo('2.png')
    info.size = 2**62
    path.write_bytes(path.read_bytes()[:1024] + info.tobuf(tarfile.GNU_FORMAT))


def compressed_zip(path):
    write_zip(path, {'1.png': bytes(1000)}, zipfile.ZIP_DEFLATED)


def damaged_zip(path):
    write_zip(path, {'1.png': png(1)})
    data = path.read_bytes()
    path.write_bytes(b'XX' + data[2:])


def encrypted_zip(path):
    write_zip(path, {'1.png': png(1)})
    data = bytearray(path.read_bytes())
    data[data.index(b'PK\x01\x02') + 8] |= 1
    path.write_bytes(data)


def no_zip(path):
    path.write_bytes(b'text')


@pytest.mark.parametrize(
    'write, suffix, reason',
    [
        (compressed_tar, 'tar', 'invalid header|bad checksum|truncated'),
        (truncated_tar, 'tar', '2.png is truncated'),
        (damaged_tar, 'tar', 'header at byte 1024 is damaged'),
        (huge_member, 'tar', '2.png is truncated|unexpected end of data'),
        (compressed_zip, 'zip', '1.png is compressed; use a tar file, or zip -0'),
        (damaged_zip, 'zip', 'the header of 1.png is damaged'),
        (encrypted_zip, 'zip', '1.png is encrypted'),
        (no_zip, 'zip', 'File is not a zip file'),
    ],
)
def test_an_archive_that_cannot_be_used_is_named(tmp_path, write, suffix, reason):
    path = tmp_path / f'a.{suffix}'
    write(path)
    with pytest.raises(InputError, match=f'archive {path} cannot be used: .*({reason}).*; replace'):
        build(tmp_path)


@given(st.data())
def test_damage_of_an_archive_is_an_input_error_or_has_no_effect(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp('damaged')
    suffix = data.draw(st.sampled_from(['tar', 'zip']))
    path = folder / f'a.{suffix}'
    (write_tar if suffix == 'tar' else write_zip)(path, {f'{i}.png': png(i) for i in range(3)})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        dataset = build(folder)
        for index in range(len(dataset)):
            archive, offset, size = dataset.get_data_info(index)['byte_range']
            assert archive == str(path) and 0 <= offset <= offset + size <= path.stat().st_size
    except InputError:
        pass
    finally:
        shutil.rmtree(folder)


def test_workers_read_the_same_images(tmp_path):
    for number in range(3):
        write_tar(tmp_path / f'{number}.tar', {f'{i}.png': png(10 * number + i) for i in range(4)})
    dataset = build(tmp_path)
    # the parent process has the files open when it forks
    expected = [value for _, value in contents(dataset, tmp_path)]
    loader = DataLoader(dataset, 4, num_workers=2, collate_fn=list)
    assert [int(sample['img'][0, 0, 0]) for batch in loader for sample in batch] == expected


def test_a_pickled_dataset_is_small_and_detects_a_replaced_index(tmp_path):
    write_tar(tmp_path / 'a.tar', {f'{i}.png': png(i) for i in range(200)})
    dataset = build(tmp_path)
    data = pickle.dumps(dataset)
    assert len(data) < 4000 and contents(pickle.loads(data), tmp_path) == contents(
        dataset, tmp_path
    )
    write_tar(tmp_path / 'b.tar', {'b.png': png(1)})
    assert len(build(tmp_path)) == 201
    with pytest.raises(RunError, match='was replaced because the images changed'):
        pickle.loads(data)
    # the files of the first dataset stay mapped
    assert len(contents(dataset, tmp_path)) == 200


def test_many_archives_are_read_with_few_open_files(tmp_path):
    for number in range(storage.OPEN_FILES + 20):
        write_tar(tmp_path / f'{number:03d}.tar', {'a.png': png(number)})
    dataset = build(tmp_path)
    order = list(range(len(dataset))) * 2
    random.Random(0).shuffle(order)
    for index in order:
        assert dataset[index]['img'][0, 0, 0] == index
    (load,) = dataset.pipeline.transforms
    assert len(load._archives._files) == storage.OPEN_FILES
