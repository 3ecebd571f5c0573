import errno
import io
import multiprocessing
import os
import threading
import time

import numpy as np
import pytest

from mmcrosscl.datasets import folders, index_cache, storage
from mmcrosscl.datasets.index_cache import cache_folder, image_index, read_list
from mmcrosscl.errors import InputError, RunError
from tests.datasets.archive_files import png, write_tar

OLD = time.time() - 1000


@pytest.fixture
def photos(tmp_path):
    """A folder with images that has not changed for a while."""
    folder = tmp_path / 'photos'
    for name in ('a.jpg', 'b/c.jpg', 'b/d.jpg'):
        add(folder / name)
    for path in (folder, folder / 'b'):
        os.utime(path, (OLD, OLD))
    return folder


@pytest.fixture
def searches(monkeypatch):
    """The folders that were searched."""
    searched = []

    def record(folder, *args):
        searched.append(folder)
        return folders.search_folder(folder, *args)

    monkeypatch.setattr(index_cache, 'search_folder', record)
    return searched


def add(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'')


def names(folder, **settings):
    index = image_index(str(folder), ('.jpg', '.png'), **settings)
    return [index.name(number) for number in range(len(index))]


def test_a_folder_is_searched_once(photos, searches):
    assert names(photos) == names(photos) == ['a.jpg', 'b/c.jpg', 'b/d.jpg']
    assert names(f'{photos}/../photos') == names(photos)
    assert searches == [str(photos)]
    assert names(photos, rebuild=True) == names(photos) and len(searches) == 2


@pytest.mark.parametrize('change', ['add', 'remove', 'rename', 'in sub-folder', 'new sub-folder'])
def test_a_change_of_the_folder_is_found(photos, searches, change):
    before = names(photos)
    if change == 'add':
        add(photos / 'e.jpg')
    elif change == 'remove':
        (photos / 'a.jpg').unlink()
    elif change == 'rename':
        (photos / 'a.jpg').rename(photos / 'z.jpg')
    elif change == 'in sub-folder':
        add(photos / 'b/a.jpg')
    else:
        add(photos / 'n/a.jpg')
    assert names(photos) != before and len(searches) == 2


def test_the_states_of_folders_are_read_at_the_same_time(photos, searches, monkeypatch):
    names(photos)
    barrier = threading.Barrier(2, timeout=30)

    def file_state(path):
        barrier.wait()
        return storage.file_state(path)

    monkeypatch.setattr(index_cache, 'STATES', 1)
    monkeypatch.setattr(index_cache, 'file_state', file_state)
    names(photos)
    assert len(searches) == 1


def test_a_folder_that_has_just_changed_is_searched_again(photos, searches):
    # another change could have the same modification time
    now = time.time()
    os.utime(photos / 'b', (now, now))
    names(photos)
    add(photos / 'b/new.jpg')
    os.utime(photos / 'b', (now, now))
    assert names(photos)[1:] == ['b/c.jpg', 'b/d.jpg', 'b/new.jpg'] and len(searches) == 2


def test_a_replaced_archive_is_found(tmp_path):
    write_tar(tmp_path / 'a.tar', {'1.png': png(1)})
    for path in (tmp_path / 'a.tar', tmp_path):
        os.utime(path, (OLD, OLD))
    assert names(tmp_path) == ['a.tar/1.png']
    write_tar(tmp_path / 'a.tar', {'2.png': png(1)})
    os.utime(tmp_path, (OLD, OLD))
    assert names(tmp_path) == ['a.tar/2.png']


def test_a_changed_list_is_found(photos, tmp_path):
    listed = tmp_path / 'list.txt'
    listed.write_text(f'b/d.jpg\r\n\n{photos}/a.jpg\n')
    os.utime(listed, (OLD, OLD))
    assert names(photos, list_file=str(listed)) == ['b/d.jpg', 'a.jpg']
    listed.write_text('a.jpg\n')
    assert names(photos, list_file=str(listed)) == ['a.jpg']


@pytest.mark.parametrize('path', ['../x.jpg', '/etc/x.jpg', 'b/../../x.jpg'])
def test_a_list_cannot_lead_out_of_the_folder(photos, tmp_path, path):
    (tmp_path / 'list.txt').write_text(f'a.jpg\n{path}\n')
    with pytest.raises(InputError, match=f'contains {path}, which is not below {photos}'):
        names(photos, list_file=str(tmp_path / 'list.txt'))


def test_paths_are_sorted_as_whole_paths(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, 'CHUNK', 3)
    rng = np.random.default_rng(0)
    made = set()
    for _ in range(300):
        parts = rng.choice(['a', 'b', 'a-', 'a.', 'ab', 'ä', '日', 'A', 'z z'], rng.integers(1, 5))
        path = '/'.join(f'{part}d' for part in parts[:-1]) + f'/{parts[-1]}.jpg'
        made.add(path.lstrip('/'))
        add(tmp_path / path.lstrip('/'))
    assert names(tmp_path) == sorted(made)


def test_names_that_are_no_valid_text_are_kept(tmp_path):
    name = os.fsdecode(b'caf\xe9\n.jpg')
    add(tmp_path / name)
    assert names(tmp_path) == [name] and (tmp_path / name).exists()


def test_a_damaged_index_is_written_again(photos, tmp_path, monkeypatch):
    monkeypatch.setenv('MMCROSSCL_CACHE', str(tmp_path / 'new'))
    names(photos)
    (path,) = cache_folder().glob('*.index')
    data = path.read_bytes()
    for damaged in (b'', data[:-5], data[: len(data) // 2], data[9:], b'x' * len(data)):
        path.write_bytes(damaged)
        assert names(photos) == ['a.jpg', 'b/c.jpg', 'b/d.jpg']
        assert path.read_bytes() == data


def test_processes_that_start_together_search_once(photos, tmp_path, monkeypatch):
    # a folder that has just changed, so that the index is not current afterwards
    os.utime(photos, None)
    monkeypatch.setenv('MMCROSSCL_CACHE', str(tmp_path / 'new'))
    context = multiprocessing.get_context('fork')
    together, searched, counts = context.Barrier(3), context.Queue(), context.Queue()

    def search(folder, *args):
        searched.put(index_cache.MAIN_PROCESS)
        time.sleep(2)
        return folders.search_folder(folder, *args)

    def run(rank):
        index_cache.MAIN_PROCESS = rank == 0
        index_cache.search_folder = search
        together.wait()
        counts.put(len(names(photos)))

    started = [context.Process(target=run, args=(rank,)) for rank in range(3)]
    for process in started:
        process.start()
    assert [counts.get(timeout=60) for _ in started] == [3, 3, 3]
    for process in started:
        process.join()
    # the main process, which has the progress bar, searches
    assert searched.get(timeout=1) is True and searched.empty()


def test_the_folder_of_the_indexes_can_be_set(monkeypatch, tmp_path):
    monkeypatch.delenv('MMCROSSCL_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert cache_folder() == tmp_path / 'xdg/mmcrosscl'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert cache_folder() == tmp_path / 'home/.cache/mmcrosscl'
    monkeypatch.setenv('MMCROSSCL_CACHE', str(tmp_path / 'own'))
    assert cache_folder() == tmp_path / 'own'


def test_without_a_home_the_indexes_are_temporary(monkeypatch, tmp_path):
    monkeypatch.delenv('MMCROSSCL_CACHE')
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    monkeypatch.setattr(index_cache.tempfile, 'gettempdir', lambda: str(tmp_path))
    assert cache_folder() == tmp_path / f'mmcrosscl-{os.getuid()}'
    assert cache_folder().stat().st_mode & 0o777 == 0o700


def test_a_folder_of_the_indexes_that_cannot_be_used_is_named(monkeypatch, tmp_path):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('MMCROSSCL_CACHE', str(tmp_path / 'file'))
    with pytest.raises(InputError, match='MMCROSSCL_CACHE is .*/file, which is no folder'):
        cache_folder()


def test_a_link_to_itself_is_skipped(photos):
    (photos / 'loop').symlink_to('loop')
    assert names(photos) == ['a.jpg', 'b/c.jpg', 'b/d.jpg']


def test_a_folder_that_cannot_be_read_is_named(photos, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if path.rstrip('/').endswith('b'):
            raise PermissionError(errno.EACCES, 'Permission denied', path)
        return scandir(path)

    monkeypatch.setattr(folders.os, 'scandir', refuse)
    with pytest.raises(InputError, match='cannot access .*photos/b/?: Permission denied; give'):
        names(photos)


def test_a_list_is_read_once(photos, tmp_path, monkeypatch):
    reads = []

    def record(*args):
        reads.append(args)
        return read_list(*args)

    monkeypatch.setattr(index_cache, 'read_list', record)
    listed = tmp_path / 'list.txt'
    listed.write_text('b/d.jpg\n')
    os.utime(listed, (OLD, OLD))
    assert names(photos, list_file=str(listed)) == names(photos, list_file=str(listed))
    assert len(reads) == 1


def test_a_list_of_another_editor_is_read_or_named(photos, tmp_path):
    listed = tmp_path / 'list.txt'
    listed.write_text('a.jpg\r\nb/c.jpg\r\n', encoding='utf-8-sig')
    assert names(photos, list_file=str(listed)) == ['a.jpg', 'b/c.jpg']
    listed.write_text('a.jpg\n', encoding='utf-16')
    with pytest.raises(InputError, match='list.txt is not text in UTF-8; save it with this'):
        names(photos, list_file=str(listed))


def test_a_failure_of_the_storage_is_not_a_full_disk(tmp_path, monkeypatch):
    write_tar(tmp_path / 'a.tar', {'1.png': png(1)})

    class Failing(io.BytesIO):
        def read(self, *args):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr('mmcrosscl.datasets.archives.open_file', lambda path: Failing())
    message = f'^{tmp_path}/a.tar cannot be read: Input/output error; check its storage$'
    with pytest.raises(RunError, match=message):
        names(tmp_path)
