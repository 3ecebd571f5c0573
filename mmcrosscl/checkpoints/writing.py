"""Atomic writing of checkpoint files: a file is complete, or stays as it was."""

import os
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
        contents (dict): Contents of the file; a flat state dict if the path ends in .safetensors.
        path (str | Path): File to write; replaced if it exists.

    Raises:
        InputError: If it cannot be written there.
    """
    path = Path(path)

    def write(partial: Path) -> None:
        if path.suffix == '.safetensors':
            # safetensors refuses tensors that share memory
            save_file({name: _copy(value) for name, value in contents.items()}, partial)
        else:
            torch.save(contents, partial)

    try:
        atomic_write(path, write)
    # torch and safetensors report a full disk as errors of their own
    except (RuntimeError, SafetensorError) as error:
        raise _unwritable(path, error) from error


def atomic_write(path: str | Path, write: Callable[[Path], None]) -> None:
    """Write to a temporary file in the same folder, then rename it to ``path``.

    Args:
        path (str | Path): The file. At any moment it has its old contents or all of the new ones.
        write (Callable): Called with the path of the temporary file, which it must write.

    Raises:
        InputError: If the file cannot be written, as on a full disk; the old file is unchanged.
    """
    path = Path(path)
    partial = path.parent / f'.{path.name}.partial'
    try:
        try:
            # a symbolic link in its place would redirect the write
            partial.unlink(missing_ok=True)
            write(partial)
            with open(partial, 'rb') as file:
                os.fsync(file.fileno())
            # safetensors makes files that only their owner can read
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


def _copy(value: Tensor) -> Tensor:
    return value.clone(memory_format=torch.contiguous_format)
