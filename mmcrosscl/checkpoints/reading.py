"""Safe reading of checkpoint files: checksums are verified, and no code in the file is run."""

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import load_file

from mmcrosscl.compat.safe_load import restricted_unpickler, safe_load
from mmcrosscl.errors import UNREACHABLE, DamagedCheckpointError, InputError

# begin of a file that torch before 1.6 wrote
LEGACY = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)


class _Inert:
    """Stand-in for an object that training does not need. It accepts and discards any state."""

    def __new__(cls, *args: object) -> '_Inert':
        return super().__new__(cls)

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Type(_Inert):
    """Stand-in for a NumPy dtype. Only numeric dtypes are accepted, as objects may contain code."""

    def __init__(self, name: str = '', *args: object) -> None:
        self.name = str(name)
        self.order = ''

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1] if state[1] in '<>' else ''

    def restore(self) -> np.dtype:
        dtype = np.dtype(self.order + self.name)
        if dtype.kind not in 'biufc':
            raise ValueError(f'it contains an array of {dtype}')
        return dtype


class _Array(_Inert):
    """Stand-in for a NumPy array."""

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    def restore(self) -> np.ndarray:
        # a pickle of Python 2 has text here
        data = self.data.encode('latin1') if isinstance(self.data, str) else self.data
        flat = np.frombuffer(data, self.dtype.restore())
        return flat.reshape(self.shape, order='F' if self.fortran else 'C').copy()


class _Scalar(_Inert):
    """Stand-in for a NumPy scalar."""

    def __init__(self, dtype: _Type, data: bytes) -> None:
        self.dtype, self.data = dtype, data

    def restore(self) -> np.generic:
        return np.frombuffer(self.data, self.dtype.restore())[0]


class _History(_Inert):
    """Stand-in for MMEngine's HistoryBuffer, which stores the values of a scalar."""

    def __setstate__(self, state: dict) -> None:
        self.state = state

    def restore(self) -> HistoryBuffer:
        log, counts = (self.state[key].restore() for key in ('_log_history', '_count_history'))
        return HistoryBuffer(log, counts, int(self.state['max_length']))


def _no_bytes() -> bytes:
    return b''


# Stand-ins for the objects other than tensors in checkpoints of MMEngine, and for the command-line
# arguments in checkpoints of MoCo and its successors. They replace the classes that the file names,
# because NumPy's classes trust their input.
HARMLESS: list[tuple[Callable, str]] = [
    (_Inert, 'argparse.Namespace'),
    (_Inert, 'builtins.getattr'),
    (_Inert, 'builtins.slice'),
    (_no_bytes, 'builtins.bytes'),
    (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_Array, 'numpy.core.multiarray._reconstruct'),
    (_Array, 'numpy._core.multiarray._reconstruct'),
    (_Scalar, 'numpy.core.multiarray.scalar'),
    (_Scalar, 'numpy._core.multiarray.scalar'),
    (_Type, 'numpy.dtype'),
    (_Inert, 'numpy.ndarray'),
]


def read_checkpoint(path: str | Path, trust: bool = False) -> Mapping:
    """Read a checkpoint of any project to the CPU without running code in the file.

    Args:
        path (str | Path): A file written by ``torch.save``, a file whose name ends in .safetensors,
            or a pickle of NumPy arrays whose name ends in .pkl, as Detectron2 reads.
        trust (bool): Unpickle all objects. This runs any code in the file with the permissions of
            the user. Defaults to False.

    Returns:
        Mapping: Contents of the file, including MMEngine's message hub.

    Raises:
        DamagedCheckpointError: If the file is truncated, a checksum is wrong, or the format is
            unknown.
        InputError: If the file does not exist, does not contain a dict, or contains code.
        OSError: If this user has no access to the file, or if its file system is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'checkpoint {path} does not exist; name a checkpoint file')
    try:
        if zipfile.is_zipfile(path):
            verify_checksums(path)
        if path.suffix == '.safetensors':
            return load_file(path)
        if path.suffix == '.pkl' and not _is_torch_file(path):
            checkpoint = _read_pickle(path, trust)
        elif trust:
            checkpoint = torch.load(path, map_location='cpu', weights_only=False)
        else:
            checkpoint = _restore(safe_load(path, HARMLESS), {})
    except UnpicklingError as error:
        if 'GLOBAL ' in str(error):
            code = str(error).split('GLOBAL ')[1].split()[0]
            raise InputError(
                f'checkpoint {path} holds code ({code}), which is not run; ask the author for a '
                'file of weights only, or pass --trust-checkpoints if you trust the author'
            ) from None
        raise _damaged(path, error) from None
    except InputError:
        raise
    # torch raises errors of many types for files that it cannot parse
    except Exception as error:
        raise _damaged(path, error) from None
    if not isinstance(checkpoint, Mapping):
        raise InputError(
            f'{path} is not a checkpoint: expected a dict, but got a '
            f'{type(checkpoint).__name__}; pass a file with a state dict'
        )
    return checkpoint


def verify_checksums(path: str | Path) -> None:
    """Verify the checksums in a zip file of ``torch.save``, which ``torch.load`` ignores.

    Args:
        path (str | Path): The file, written by torch 1.6 or later.

    Raises:
        DamagedCheckpointError: If a checksum is wrong, a record is compressed, or the file is not a
            zip file.
        OSError: If this user has no access to the file, or if its file system is missing.
    """
    try:
        with zipfile.ZipFile(path) as records:
            # torch.save never compresses, and a compressed record could expand to any size
            if any(record.compress_type != zipfile.ZIP_STORED for record in records.infolist()):
                raise ValueError('a record is compressed')
            if (record := records.testzip()) is not None:
                raise ValueError(f'the checksum of {record} is wrong')
    # zipfile raises errors of many types for damaged files
    except Exception as error:
        raise _damaged(path, error) from None


def _is_torch_file(path: Path) -> bool:
    with open(path, 'rb') as file:
        legacy = file.read(len(LEGACY)) == LEGACY
    return legacy or zipfile.is_zipfile(path)


def _read_pickle(path: Path, trust: bool) -> object:
    """Read a plain pickle, and return its NumPy arrays as tensors."""
    unpickler = pickle.Unpickler if trust else restricted_unpickler(HARMLESS)
    with open(path, 'rb') as file:
        return _restore(unpickler(file, encoding='latin1').load(), {}, tensors=True)


def _restore(value: object, seen: dict[int, tuple], tensors: bool = False) -> object:
    """Replace the stand-ins in nested dicts, lists and tuples, which may be shared.

    Args:
        value (object): The value, whose dicts and lists are changed in place.
        seen (dict[int, tuple]): Values that were replaced, by their id.
        tensors (bool): Return arrays as tensors. Defaults to False.
    """
    if id(value) in seen:
        return seen[id(value)][1]
    if isinstance(value, _Array | np.ndarray):
        array = value.restore() if isinstance(value, _Array) else value
        # torch has no foreign byte orders
        native = array.astype(array.dtype.newbyteorder('=')) if tensors else array
        seen[id(value)] = value, torch.from_numpy(native) if tensors else native
        return seen[id(value)][1]
    if isinstance(value, _Scalar | _History | _Type):
        return value.restore()
    if isinstance(value, dict | list):
        seen[id(value)] = value, value
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            value[key] = _restore(inner, seen, tensors)
    elif isinstance(value, tuple):
        restored = tuple(_restore(inner, seen, tensors) for inner in value)
        # a reference to the old tuple prevents the reuse of its id
        seen[id(value)] = value, restored
        return restored
    return value


def _damaged(path: str | Path, error: Exception) -> DamagedCheckpointError | OSError:
    """Return the error of a file that cannot be read: EIO may be damage, a missing disk is not."""
    if isinstance(error, OSError) and error.errno in UNREACHABLE:
        return error
    return DamagedCheckpointError(
        f'{path} is not a complete checkpoint ({_reason(error)}); it may be truncated or in '
        'another format, so download or save it again'
    )


def _reason(error: Exception) -> str:
    """Return the first line of an error, without torch's advice to turn off ``weights_only``."""
    text = str(error).rpartition('WeightsUnpickler error:')[2].strip() or type(error).__name__
    line = text.splitlines()[0]
    return 'it is not a state dict' if 'weights_only' in line else line


def last_checkpoint(work_dir: str | Path) -> Path:
    """Return the path of the checkpoint that a run wrote last.

    Args:
        work_dir (str | Path): Work dir of the run, which may have been moved since.

    Raises:
        InputError: If the run has written no checkpoint.
    """
    work_dir = Path(work_dir)
    try:
        written = (work_dir / 'last_checkpoint').read_text().strip()
    except FileNotFoundError:
        raise InputError(
            f'{work_dir} contains no checkpoint; pass the work dir of a run that has saved one'
        ) from None
    return work_dir / Path(written).name
