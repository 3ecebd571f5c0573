import tarfile

import pytest

from mmcrosscl.cli import main
from mmcrosscl.datasets import UnlabeledDataset, open_image, write_shards
from mmcrosscl.errors import InputError
from tests.datasets.archive_files import png, write_tar


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    for number in range(10):
        path = folder / f'{number % 2}' / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    return folder


def files(dataset):
    """Return the contents of all files by their name."""
    found = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        with open_image(info) as file:
            found['/'.join(info['img_path'].split('/')[-2:])] = file.read()
    return found


def test_the_archives_have_the_same_files_in_random_order(photos, tmp_path):
    source = UnlabeledDataset(data_root=str(photos))
    written = write_shards(source, tmp_path / 'out', images_per_shard=4)
    assert [path.name for path in written] == ['000000.tar', '000001.tar', '000002.tar']
    shards = UnlabeledDataset(data_root=str(tmp_path / 'out'))
    assert files(shards) == files(source) and len(shards) == 10
    names = [shards.get_data_info(index)['img_path'] for index in range(10)]
    assert [name.split('.tar/')[1] for name in names] != sorted(files(source))
    assert [sum(f'{n}.tar' in name for name in names) for n in range(3)] == [4, 4, 2]


def test_an_interrupted_command_continues(photos, tmp_path, monkeypatch):
    dataset = UnlabeledDataset(data_root=str(photos))
    written = write_shards(dataset, tmp_path / 'whole', images_per_shard=4)
    real, calls = UnlabeledDataset.get_data_info, []

    def interrupted(self, index):
        calls.append(index)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, index)

    monkeypatch.setattr(UnlabeledDataset, 'get_data_info', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_shards(dataset, tmp_path / 'out', images_per_shard=4)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        '000000.tar',
        'shards.json',
    ]
    write_shards(dataset, tmp_path / 'out', images_per_shard=4)
    assert len(calls) == 6 + 6
    for path in written:
        assert path.read_bytes() == (tmp_path / 'out' / path.name).read_bytes()


def test_archives_of_other_images_are_not_mixed(photos, tmp_path):
    write_shards(UnlabeledDataset(data_root=str(photos)), tmp_path / 'out')
    (photos / 'new.png').write_bytes(png(1))
    with pytest.raises(InputError, match='out has archives of other images or settings'):
        write_shards(UnlabeledDataset(data_root=str(photos)), tmp_path / 'out')


def test_foreign_archives_and_urls_are_refused(photos, tmp_path):
    dataset = UnlabeledDataset(data_root=str(photos))
    (tmp_path / 'out').mkdir()
    write_tar(tmp_path / 'out/000000.tar', {'other.png': png(1)})
    with pytest.raises(InputError, match='out has archives of other images or settings'):
        write_shards(dataset, tmp_path / 'out')
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['000000.tar']
    with pytest.raises(InputError, match='s3://bucket/shards is a URL; write to a local folder'):
        write_shards(dataset, 's3://bucket/shards')


def test_an_unreadable_file_is_named(photos, tmp_path):
    dataset = UnlabeledDataset(data_root=str(photos))
    (photos / '0/0.png').unlink()
    with pytest.raises(
        InputError, match=r'image .*0.png cannot be read: No such file.*run the comm'
    ):
        write_shards(dataset, tmp_path / 'out')
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['shards.json']


def test_the_commands(photos, tmp_path, capsys):
    assert main(['index', str(photos)]) == 0
    assert capsys.readouterr().out.startswith('10 images, ')
    # like a network storage that keeps the modification time of folders
    assert main(['index', str(photos), '--rebuild']) == 0
    assert main(['shard', str(photos), str(tmp_path / 'out'), '--images', '5']) == 0
    assert capsys.readouterr().out.endswith('10 images in 2 tar files\n')
    with tarfile.open(tmp_path / 'out/000000.tar') as archive:
        member = archive.next()
        assert member.name[0] in '01' and member.mode == 0o644 and member.mtime == 0
        assert archive.extractfile(member).read() == (photos / member.name).read_bytes()
    (tmp_path / 'list.txt').write_text('0/2.png\n')
    assert main(['index', str(photos), '--list', str(tmp_path / 'list.txt')]) == 0
    assert '1 images, ' in capsys.readouterr().out
    assert main(['shard', str(photos), str(tmp_path / 'out'), '--images', '0']) == 1
