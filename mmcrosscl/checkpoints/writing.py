"""Atomic writing of checkpoint files: the new file is complete, or the old file is unchanged."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mmcrosscl.errors import InputError


def write_checkpoint(contents: dict, path: str | Path) -> None:
    """Write a checkpoint atomically.

    Args:
        contents (dict): Contents of the file. Must be a flat state dict if the path ends in
            .safetensors.
        path (str | Path): File to write. An existing file is replaced.

    Raises:
        InputError: If the file cannot be written.
    """
    path = Path(path)

    def write(partial: Path) -> None:
        if path.suffix == '.safetensors':
            partial.touch()
            mode = stat.S_IMODE(partial.stat().st_mode)
            # safetensors rejects tensors that share memory
            save_file({name: _copy(value) for name, value in contents.items()}, partial)
            # safetensors creates files that only their owner can read
            os.chmod(partial, mode)
        else:
            torch.save(contents, partial)

    try:
        atomic_write(path, write)
    # torch and safetensors raise their own errors, not OSError, if the disk is full
    except (RuntimeError, SafetensorError) as error:
        raise _unwritable(path, error) from error


def atomic_write(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary file in the same folder, then rename it to ``path``.

    The folder is created if it does not exist. Devices such as ``/dev/null`` are written directly.

    Args:
        path (str | Path): File to write. At any time, it has either all of its old contents or all
            of its new contents.
        write (Callable): Function that writes the temporary file. It is called with the path of
            this file.

    Raises:
        InputError: If the file cannot be written, for example because the disk is full. The old
            file is unchanged.
    """
    path = Path(path)
    partial = path.parent / f'.{path.name}.partial'
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            write(path)
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # a symbolic link of the same name would redirect the write to another file
            partial.unlink(missing_ok=True)
            write(partial)
            with open(partial, 'rb') as file:
                os.fsync(file.fileno())
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
    # an OSError would name the temporary file
    reason = getattr(error, 'strerror', None) or error
    return InputError(f'cannot write {path}: {reason}; make room, or choose another path')


def _copy(value: Tensor) -> Tensor:
    return value.clone(memory_format=torch.contiguous_format)
