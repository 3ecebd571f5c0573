import argparse
import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer

from mmcrosscl.checkpoints import read_checkpoint, verify_checksums, write_checkpoint
from mmcrosscl.compat import safe_load
from mmcrosscl.errors import DamagedCheckpointError, InputError
from tests.checkpoints.hostile import CallsMethod, Hostile
from tests.checkpoints.makers import STATE, assert_state


@pytest.fixture(params=['zip', 'legacy', 'zip, own unpickler', 'legacy, own unpickler'])
def save(request, monkeypatch):
    """Save in torch's two formats, and read with torch's unpickler and with that of compat."""
    safe_load.supports_substitutes.cache_clear()
    if 'own' in request.param:
        monkeypatch.setattr(safe_load, 'supports_substitutes', lambda: False)

    def save(contents, path):
        torch.save(contents, path, _use_new_zipfile_serialization='zip' in request.param)

    return save


def test_training_state_other_than_tensors_is_read_safely(save, tmp_path):
    path = tmp_path / 'epoch_1.pth'
    buffer = HistoryBuffer()
    buffer.update(np.float64(3.5))
    shared = np.arange(6.0).reshape(2, 3)
    info = {'lr': np.float32(0.1), 'both': (shared, [shared]), 'order': np.asfortranarray(shared)}
    hub = dict(log_scalars={'loss': buffer, 'empty': HistoryBuffer()}, runtime_info=info)
    args = argparse.Namespace(lr=0.03)
    save({'state_dict': STATE, 'message_hub': hub, 'args': args, 'epoch': 7}, path)
    read = read_checkpoint(path)
    assert_state(read['state_dict'])
    assert read['epoch'] == 7
    log, info = read['message_hub']['log_scalars'], read['message_hub']['runtime_info']
    assert log['loss'].mean() == 3.5 and log['loss'].max_length == buffer.max_length
    assert [part.tolist() for part in log['empty'].data] == [[], []]
    assert info['lr'] == np.float32(0.1) and type(info['lr']) is np.float32
    for array in (info['both'][0], info['both'][1][0], info['order']):
        assert np.array_equal(array, shared) and array.dtype == shared.dtype
    log['loss'].update(4.5)
    assert not vars(read['args'])


def test_a_file_that_runs_a_command_is_refused_and_not_run(save, tmp_path):
    sign = tmp_path / 'sign'
    for hostile, complaint in (
        (Hostile(sign), r'holds code \(\S+\), which is not run; ask the author'),
        (CallsMethod(), 'is not a complete checkpoint'),
    ):
        save({'state_dict': STATE, 'meta': hostile}, tmp_path / 'x.pth')
        with pytest.raises(InputError, match=complaint):
            read_checkpoint(tmp_path / 'x.pth')
    (tmp_path / 'x.pth').write_bytes(pickle.dumps(Hostile(sign)))
    with pytest.raises(InputError):
        read_checkpoint(tmp_path / 'x.pth')
    assert not sign.exists()


UNSAFE, SAFE = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


@pytest.mark.parametrize('variables', [[UNSAFE], [SAFE], [UNSAFE, SAFE]])
def test_the_variables_of_torch_have_no_effect(save, tmp_path, monkeypatch, variables):
    for variable in variables:
        monkeypatch.setenv(variable, '1')
    before = dict(os.environ)
    sign = tmp_path / 'sign'
    save({'state_dict': STATE, 'order': slice(2)}, tmp_path / 'a.pth')
    save({'state_dict': STATE, 'meta': Hostile(sign)}, tmp_path / 'b.pth')
    assert_state(read_checkpoint(tmp_path / 'a.pth')['state_dict'])
    with pytest.raises(InputError, match='holds code'):
        read_checkpoint(tmp_path / 'b.pth')
    assert not sign.exists() and dict(os.environ) == before


@pytest.mark.parametrize('share', [0, 0.02, 0.5, 0.98])
@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors'])
def test_a_truncated_file_is_named(tmp_path, name, share):
    path = tmp_path / name
    write_checkpoint(STATE | {'big': torch.randn(100, 100)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        InputError, match=f'{name} is not a complete checkpoint .*download or save it again'
    ):
        read_checkpoint(path)


def test_a_truncated_legacy_file_is_named(save, tmp_path):
    path = tmp_path / 'x.pth'
    save(STATE | {'big': torch.randn(100, 100)}, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match='is not a complete checkpoint'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [b'', b'hello', b'\x89PNG\r\n\x1a\n' * 9, pickle.dumps([1])])
def test_a_file_that_is_not_a_checkpoint_is_named(tmp_path, content):
    path = tmp_path / 'x.pth'
    path.write_bytes(content)
    with pytest.raises(InputError, match='x.pth is not a (complete )?checkpoint'):
        read_checkpoint(path)


def save_script(path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    # TorchScript compresses its code; store it uncompressed, so that verify_checksums accepts it
    with zipfile.ZipFile(path) as records:
        contents = {record.filename: records.read(record) for record in records.infolist()}
    with zipfile.ZipFile(path, 'w') as records:
        for name, content in contents.items():
            records.writestr(name, content)


def save_tar(path):
    with tarfile.open(path, 'w') as tar:
        for name in ('storages', 'tensors', 'pickle'):
            member = tarfile.TarInfo(name)
            member.size = 8
            tar.addfile(member, io.BytesIO(bytes(8)))


@pytest.mark.filterwarnings('ignore:.*TorchScript archive', 'ignore:.*torch.jit')
@pytest.mark.parametrize(
    'write',
    [
        lambda path: path.write_text('not a checkpoint'),
        lambda path: path.write_bytes(pickle.dumps([1])),
        lambda path: path.write_bytes(bytes(range(256))),
        lambda path: torch.save({'state_dict': STATE, 'meta': CallsMethod()}, path),
        lambda path: torch.save({'state_dict': STATE, 'meta': Hostile(path)}, path),
        save_script,
        save_tar,
    ],
    ids=['text', 'pickle', 'bytes', 'method', 'command', 'TorchScript', 'tar'],
)
def test_the_message_never_recommends_unsafe_loading(tmp_path, write):
    path = tmp_path / 'x.pth'
    write(path)
    # older releases of torch load the archive in spite of weights_only
    if safe_load.supports_substitutes() or write is not save_script:
        with pytest.raises(Exception, match='weights_only'):
            torch.load(path, weights_only=True)
    with pytest.raises(InputError, match='x.pth') as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert 'weights_only' not in message and 'torch.load' not in message and '\n' not in message


def test_a_file_with_only_a_tensor_is_refused(save, tmp_path):
    save(torch.ones(3), tmp_path / 'x.pth')
    with pytest.raises(InputError, match='is not a checkpoint: expected a dict, but got a Tensor'):
        read_checkpoint(tmp_path / 'x.pth')


def test_an_array_of_objects_is_refused(save, tmp_path):
    save({'state_dict': STATE, 'meta': np.array([STATE], dtype=object)}, tmp_path / 'x.pth')
    with pytest.raises(InputError, match='is not a complete checkpoint'):
        read_checkpoint(tmp_path / 'x.pth')


def test_a_trusted_file_is_unpickled(save, tmp_path, monkeypatch):
    # an earlier runner may have set the variable for this process
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    sign = tmp_path / 'sign'
    save({'state_dict': STATE, 'meta': Hostile(sign)}, tmp_path / 'x.pth')
    assert_state(read_checkpoint(tmp_path / 'x.pth', trust=True)['state_dict'])
    assert sign.exists()


def test_every_changed_byte_of_a_tensor_is_detected(tmp_path):
    path = tmp_path / 'x.pth'
    write_checkpoint(STATE, path)
    content = path.read_bytes()
    start = content.index(STATE['a.weight'].numpy().tobytes())
    verify_checksums(path)
    for i in range(start, start + 24):
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        for check in (verify_checksums, read_checkpoint):
            with pytest.raises(DamagedCheckpointError, match='the checksum of .* is wrong'):
                check(path)


@settings(max_examples=300)
@given(data=st.data())
def test_a_changed_file_is_refused_or_has_the_same_weights(data, tmp_path_factory):
    """Checksums cover the contents of records, but not their names, dates and padding."""
    path = tmp_path_factory.mktemp('fuzz') / 'x.pth'
    write_checkpoint(STATE, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert_state(read_checkpoint(path))
    except InputError:
        pass


def test_a_decompression_bomb_is_refused(tmp_path):
    path = tmp_path / 'x.pth'
    write_checkpoint({'zeros': torch.zeros(10**6)}, path)
    small = tmp_path / 'small.pth'
    with zipfile.ZipFile(path) as records, zipfile.ZipFile(small, 'w') as bomb:
        for record in records.infolist():
            bomb.writestr(record.filename, records.read(record), zipfile.ZIP_DEFLATED)
    assert small.stat().st_size < 10**5
    with pytest.raises(DamagedCheckpointError, match='compressed'):
        read_checkpoint(small)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / 'gone.pth', tmp_path):
        with pytest.raises(InputError, match=f'checkpoint {path} does not exist'):
            read_checkpoint(path)


@pytest.mark.parametrize('protocol', [2, 4])
def test_a_pickle_of_arrays_is_read(tmp_path, protocol):
    path = tmp_path / 'model_final.pkl'
    model = {'backbone.bottom_up.stem.conv1.weight': np.arange(6, dtype=np.float32).reshape(2, 3)}
    contents = {'model': model, '__author__': 'Detectron2 Model Zoo'}
    path.write_bytes(pickle.dumps(contents, protocol=protocol))
    read = read_checkpoint(path)
    assert read['__author__'] == 'Detectron2 Model Zoo'
    for name, array in model.items():
        assert torch.equal(read['model'][name], torch.from_numpy(array))


def test_pickles_of_every_kind_are_read(tmp_path):
    path = tmp_path / 'model.pkl'
    path.write_bytes(pickle.dumps({'big': np.arange(3, dtype='>f4'), 'step': np.float32(2)}))
    for trust in (False, True):
        read = read_checkpoint(path, trust)
        assert read['big'].tolist() == [0, 1, 2] and read['step'] == 2
    for zipped in (False, True):
        torch.save({'w': torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
        assert read_checkpoint(path)['w'].tolist() == [1, 1]


def test_a_pickle_with_shared_parts_is_read_in_linear_time(tmp_path):
    value = {'w': np.ones(1)}
    for _ in range(60):
        value = {'a': value, 'b': value}
    (tmp_path / 'model.pkl').write_bytes(pickle.dumps(value))
    read = read_checkpoint(tmp_path / 'model.pkl')
    assert read['a'] is read['b']


def test_a_pickle_that_runs_a_command_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path}/run',)

    path = tmp_path / 'model_final.pkl'
    path.write_bytes(pickle.dumps({'model': Attack()}))
    with pytest.raises(InputError, match='holds code'):
        read_checkpoint(path)
    assert not (tmp_path / 'run').exists()
