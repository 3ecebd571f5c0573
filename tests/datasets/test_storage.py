import os
import socket

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer
from torch.utils.data import DataLoader

from mmcrosscl.datasets import UnlabeledDataset, storage
from mmcrosscl.datasets.storage import RangeReader, absolute, join
from mmcrosscl.datasets.transforms import LoadImage, loading
from mmcrosscl.detectors import choose_view_size
from mmcrosscl.errors import BrokenImageError, InputError, RunError
from tests.datasets.archive_files import png, write_tar, write_zip


@pytest.fixture(scope='module')
def server():
    """An S3 server on this machine."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    server = ThreadedMotoServer(ip_address='127.0.0.1', port=port, verbose=False)
    server.start()
    yield f'http://127.0.0.1:{port}'
    server.stop()


@pytest.fixture
def client(server, monkeypatch):
    """A client of the server, whose address is in the environment."""
    monkeypatch.setenv('AWS_ENDPOINT_URL', server)
    monkeypatch.setenv('AWS_DEFAULT_REGION', 'us-east-1')
    for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
        monkeypatch.setenv(name, 'test')
    client = boto3.client('s3')
    client.create_bucket(Bucket='images')
    yield client
    for item in client.list_objects(Bucket='images').get('Contents', ()):
        client.delete_object(Bucket='images', Key=item['Key'])


@pytest.fixture
def archives(client, tmp_path):
    """The URL of a folder with a tar file and a zip file."""
    write_tar(tmp_path / '0.tar', {f'{i}.png': png(i) for i in range(4)} | {'0.txt': b'caption'})
    write_zip(tmp_path / '1.zip', {f'{i}.png': png(10 + i) for i in range(3)})
    for name in ('0.tar', '1.zip'):
        client.upload_file(str(tmp_path / name), 'images', f'archives/{name}')
    return 's3://images/archives'


def build(folder):
    return UnlabeledDataset(data_root=folder, pipeline=[LoadImage()])


def values(dataset, workers=0):
    loader = DataLoader(dataset, 2, num_workers=workers, collate_fn=list)
    return [int(sample['img'][0, 0, 0]) for batch in loader for sample in batch]


def test_workers_read_the_images_of_archives_on_s3(archives):
    dataset = build(archives)
    info = dataset.get_data_info(1)
    assert info['img_path'] == f'{archives}/0.tar/1.png'
    assert info['byte_range'][0] == f'{archives}/0.tar'
    assert choose_view_size(dataset) == 96
    assert values(dataset, workers=2) == values(dataset) == [0, 1, 2, 3, 10, 11, 12]
    assert values(build(f'{archives}/0.tar')) == [0, 1, 2, 3]


def test_only_the_bytes_of_an_image_are_read(archives, monkeypatch):
    dataset = build(archives)
    info = dataset.get_data_info(5)
    read = []
    files, path = storage.file_system(info['byte_range'][0])
    monkeypatch.setattr(
        files, 'cat_file', lambda path, start, end: read.append((start, end)) or png(1)
    )
    dataset[5]
    _, offset, size = info['byte_range']
    assert read == [(offset, offset + size)] and size == len(png(11))


def test_archives_on_s3_are_indexed_once_until_one_changes(archives, client, monkeypatch, tmp_path):
    # the archives of another test can have the same contents
    monkeypatch.setenv('MMCROSSCL_CACHE', str(tmp_path / 'cache'))
    opened = []
    monkeypatch.setattr(
        'mmcrosscl.datasets.archives.open_file',
        lambda path: opened.append(path) or storage.open_file(path),
    )
    assert len(build(archives)) == len(build(archives)) == 7 and len(opened) == 2
    write_tar(tmp_path / '0.tar', {'1.png': png(1)})
    client.upload_file(str(tmp_path / '0.tar'), 'images', 'archives/0.tar')
    assert len(build(archives)) == 4 and len(opened) == 4


def test_images_on_s3_are_read_one_by_one(client):
    for name, data in {'b/2.png': png(2), 'a.png': png(1), 'c.png': b'text', 'd.txt': b''}.items():
        client.put_object(Bucket='images', Key=f'folder/{name}', Body=data)
    dataset = build('s3://images/folder')
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    assert paths == [f's3://images/folder/{name}' for name in ('a.png', 'b/2.png', 'c.png')]
    assert [dataset[0]['img'][0, 0, 0], dataset[1]['img'][0, 0, 0]] == [1, 2]
    with pytest.raises(BrokenImageError, match='c.png: not an image'):
        LoadImage()(dataset.get_data_info(2))


def test_a_server_that_does_not_answer_is_no_broken_image(archives, monkeypatch):
    monkeypatch.setattr(loading, 'PAUSES', (0, 0))
    info = build(archives).get_data_info(0)

    def fail(path, start, end):
        raise RuntimeError('no answer')

    monkeypatch.setattr(storage.file_system(archives)[0], 'cat_file', fail)
    with pytest.raises(
        RunError, match=r'cannot read s3://images/archives/0.tar/0.png: .*3 attempts'
    ):
        LoadImage()(info)


def test_a_url_without_images_or_of_an_unknown_kind_is_named(client):
    with pytest.raises(InputError, match='s3://images/nothing contains no images'):
        build('s3://images/nothing')
    with pytest.raises(InputError, match='unknown://x cannot be read: Protocol not known.*correct'):
        build('unknown://x')


def test_a_file_that_could_not_be_read_is_opened_again(tmp_path, monkeypatch):
    path = tmp_path / 'a'
    path.write_bytes(b'0123456789')
    reader = RangeReader()
    assert reader.read(str(path), 2, 3) == b'234' and reader.read(str(path), 8, 10) == b'89'
    pread, opened = os.pread, []

    def stale(*args):
        raise OSError(116, 'Stale file handle')

    monkeypatch.setattr(os, 'pread', stale)
    with pytest.raises(OSError, match='Stale'):
        reader.read(str(path), 0, 1)
    monkeypatch.setattr(os, 'pread', pread)
    monkeypatch.setattr('builtins.open', lambda *a, **k: opened.append(a) or io_open(*a, **k))
    assert reader.read(str(path), 0, 1) == b'0' and len(opened) == 1


io_open = open


def test_paths_and_urls_are_joined():
    assert join('/', 'a') == '/a' and join('s3://b/', 'c') == 's3://b/c'
    assert join('', 'a') == 'a' and join('a', '') == 'a'
    assert absolute('s3://b/c') == 's3://b/c' and os.path.isabs(absolute('c'))


def test_hidden_files_of_a_storage_are_skipped(client):
    for name in ('a.png', '._a.png', '.trash/b.png', 'c/._d.tar'):
        client.put_object(Bucket='images', Key=f'folder/{name}', Body=png(1))
    dataset = build('s3://images/folder')
    assert [info['img_path'] for info in map(dataset.get_data_info, range(len(dataset)))] == [
        's3://images/folder/a.png'
    ]


def test_errors_of_the_client_are_one_sentence(monkeypatch):
    class Client(fsspec.AbstractFileSystem):
        def find(self, *args, **settings):
            raise RuntimeError('no credentials')

        open = size = find

    monkeypatch.setattr(storage, 'file_system', lambda url: (Client(), 'bucket/shards'))
    message = (
        r'^memory://bucket/shards cannot be read \(RuntimeError: no credentials\); check the URL, '
        'the credentials and the network$'
    )
    for read in (storage.list_remote, storage.open_file, storage.file_state):
        with pytest.raises(InputError, match=message):
            read('memory://bucket/shards')
