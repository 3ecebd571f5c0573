"""Checkpoint files: read without running what is in them, written whole or not at all."""

import os
import zipfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmcrosscl.errors import DamagedCheckpointError, InputError


class _Inert:
    """Stands for what training leaves beside the weights; takes any value and keeps none."""

    def __new__(cls, *args: object) -> '_Inert':
        return super().__new__(cls)

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Type(_Inert):
    """Stands for a NumPy dtype; only numbers have one here, as objects would be code again."""

    def __init__(self, name: str = '', *args: object) -> None:
        self.name = str(name)
        self.order = ''

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1] if state[1] in '<>' else ''

    def revive(self) -> np.dtype:
        dtype = np.dtype(self.order + self.name)
        if dtype.kind not in 'biufc':
            raise ValueError(f'an array of {dtype}')
        return dtype


class _Array(_Inert):
    """Stands for a NumPy array."""

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    def revive(self) -> np.ndarray:
        flat = np.frombuffer(self.data, self.dtype.revive())
        return flat.reshape(self.shape, order='F' if self.fortran else 'C').copy()


class _Scalar(_Inert):
    """Stands for a NumPy number."""

    def __init__(self, dtype: _Type, data: bytes) -> None:
        self.dtype, self.data = dtype, data

    def revive(self) -> np.generic:
        return np.frombuffer(self.data, self.dtype.revive())[0]


class _History(_Inert):
    """Stands for MMEngine's record of a value over the iterations."""

    def __setstate__(self, state: dict) -> None:
        self.state = state

    def revive(self) -> HistoryBuffer:
        log, counts = (self.state[key].revive() for key in ('_log_history', '_count_history'))
        return HistoryBuffer(log, counts, int(self.state['max_length']))


def _no_bytes() -> bytes:
    return b''


# What MMEngine's checkpoints hold beside tensors, and the command lines that MoCo's children save.
# None of it is made by the class that the file names: NumPy's trust what they unpickle.
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


def read_checkpoint(path: str | Path, trust: bool = False) -> dict:
    """Read a checkpoint of any project on the CPU; no code that it may hold is run.

    Args:
        path (str | Path): A file that torch saved, or one of safetensors if it is called so.
        trust (bool): Unpickle whatever is in it. That runs any command that the file's author put
            there, with the rights of who reads it. Defaults to False.

    Returns:
        dict: What the file holds, MMEngine's message hub included.

    Raises:
        DamagedCheckpointError: If it is cut off, its checksums are wrong, or it is none of torch's.
        InputError: If there is no such file, it holds no checkpoint, or it holds code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'checkpoint {path} does not exist; name a checkpoint file')
    try:
        if zipfile.is_zipfile(path):
            verify_checksums(path)
        if path.suffix == '.safetensors':
            return load_file(path)
        safely = nullcontext() if trust else torch.serialization.safe_globals(HARMLESS)
        with safely:
            checkpoint = torch.load(path, map_location='cpu', weights_only=not trust)
        checkpoint = _revive(checkpoint, {})
    except UnpicklingError as error:
        if 'GLOBAL ' in str(error):
            code = str(error).split('GLOBAL ')[1].split()[0]
            raise InputError(
                f'checkpoint {path} holds code ({code}), which is not run; ask its author for the '
                'weights alone or, if you would run any program of theirs, add --trust-checkpoints'
            ) from None
        raise _damaged(path, error) from None
    except InputError:
        raise
    # torch raises whatever its parser stumbles over
    except Exception as error:
        raise _damaged(path, error) from None
    if not isinstance(checkpoint, Mapping):
        raise InputError(
            f'{path} is no checkpoint: it holds a {type(checkpoint).__name__}; give a file with a '
            'state dict'
        )
    return checkpoint


def verify_checksums(path: str | Path) -> None:
    """Compare a file that torch saved with the checksums in it, which torch does not do.

    Args:
        path (str | Path): The file, of torch 1.6 or later.

    Raises:
        DamagedCheckpointError: If they differ, or there are none.
    """
    try:
        with zipfile.ZipFile(path) as records:
            # torch never compresses: what unpacks to more than the file holds is a bomb
            if any(record.compress_type != zipfile.ZIP_STORED for record in records.infolist()):
                raise ValueError('compressed')
            if (record := records.testzip()) is not None:
                raise ValueError(f'the checksum of {record} is wrong')
    # zipfile too raises whatever it stumbles over
    except Exception as error:
        raise _damaged(path, error) from None


def _revive(value: object, seen: dict[int, tuple]) -> object:
    """Put what the stand-ins stand for in their places, in every dict and list, however shared."""
    if isinstance(value, _Array | _Scalar | _History | _Type):
        return value.revive()
    if id(value) in seen:
        return seen[id(value)][1]
    if isinstance(value, dict | list):
        seen[id(value)] = value, value
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            value[key] = _revive(inner, seen)
    elif isinstance(value, tuple):
        revived = tuple(_revive(inner, seen) for inner in value)
        # the old one is kept too, or its id would soon be another's
        seen[id(value)] = value, revived
        return revived
    return value


def write_checkpoint(contents: dict, path: str | Path) -> None:
    """Write a checkpoint in one piece: the file is there whole or as it was before.

    Args:
        contents (dict): What to save; names to tensors alone if the path ends in .safetensors.
        path (str | Path): Where to; replaced if it exists.

    Raises:
        InputError: If it cannot be written there.
    """
    path = Path(path)

    def write(partial: Path) -> None:
        if path.suffix == '.safetensors':
            # it takes no two names for one memory
            save_file({name: _own(value) for name, value in contents.items()}, partial)
        else:
            torch.save(contents, partial)

    try:
        atomic_write(path, write)
    # torch and safetensors report a full disk as errors of their own
    except (RuntimeError, SafetensorError) as error:
        raise _unwritable(path, error) from error


def atomic_write(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` write another file beside ``path``, and put it in its place once it is on disk.

    Args:
        path (str | Path): The file; at any moment it is the old one or the new one.
        write (Callable): Writes to the path that it is given.

    Raises:
        InputError: If the disk is full or read-only, or the like; the old file is as it was.
    """
    path = Path(path)
    partial = path.parent / f'.{path.name}.partial'
    try:
        try:
            # never through a link that somebody laid there
            partial.unlink(missing_ok=True)
            write(partial)
            with open(partial, 'rb') as file:
                os.fsync(file.fileno())
            # safetensors gives its files to their owner alone
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> InputError:
    return InputError(f'cannot write {path}: {error}; make room, or choose another place')


def _own(value: Tensor) -> Tensor:
    return value.clone(memory_format=torch.contiguous_format)


def _damaged(path: str | Path, error: Exception) -> DamagedCheckpointError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DamagedCheckpointError(
        f'{path} is no whole checkpoint ({reason}); it may be cut off or of another kind: fetch or '
        'save it again'
    )
