import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mmcrosscl.checkpoints import atomic_write, read_checkpoint, write_checkpoint
from mmcrosscl.errors import InputError
from tests.checkpoints.makers import STATE, assert_state


def test_safetensors_are_read_and_written(tmp_path):
    path = tmp_path / 'weights.safetensors'
    shared = {**STATE, 'b.weight': STATE['a.weight'], 'c': STATE['a.weight'].T}
    write_checkpoint(shared, path)
    read = read_checkpoint(path)
    assert all(torch.equal(read[name], value) for name, value in shared.items())


@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors'])
def test_written_files_can_be_read_and_no_other_file_remains(tmp_path, name):
    path = tmp_path / name
    path.write_text('old')
    write_checkpoint(STATE, path)
    assert_state(read_checkpoint(path))
    assert os.listdir(tmp_path) == [name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    before = os.umask(0o077)
    try:
        write_checkpoint(STATE, path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_with_the_name_of_the_partial_file_is_not_followed(tmp_path):
    victim = tmp_path / 'victim'
    victim.write_text('mine')
    (tmp_path / '.x.pth.partial').symlink_to(victim)
    write_checkpoint(STATE, tmp_path / 'x.pth')
    assert victim.read_text() == 'mine'
    assert sorted(os.listdir(tmp_path)) == ['victim', 'x.pth']


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'x.pth'
    write_checkpoint(STATE, path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(InputError, match='cannot write .*x.pth: .*No space left'):
        write_checkpoint({'other': torch.ones(3)}, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ['x.pth']


def test_a_missing_folder_is_created(tmp_path):
    write_checkpoint(STATE, tmp_path / 'new/folder/x.pth')
    assert (tmp_path / 'new/folder/x.pth').is_file()


def test_a_file_in_place_of_the_folder_is_an_error_that_names_the_checkpoint(tmp_path):
    (tmp_path / 'gone').touch()
    with pytest.raises(
        InputError, match='cannot write [^ ]*gone/x.pth: Not a directory; make room, or choose'
    ):
        write_checkpoint(STATE, tmp_path / 'gone/x.pth')


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    path = tmp_path / 'pipe'
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(path.read_text)
        atomic_write(path, lambda target: target.write_text('contents'))
        assert read.result(timeout=10) == 'contents'
    assert path.is_fifo() and os.listdir(tmp_path) == ['pipe']
