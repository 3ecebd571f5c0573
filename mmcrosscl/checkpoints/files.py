"""Checkpoint files: read without running what is in them, written whole or not at all."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmcrosscl.errors import InputError


class _Inert:
    """Stands for what training leaves beside the weights; takes any value and keeps none."""

    def __new__(cls, *args: object) -> '_Inert':
        return super().__new__(cls)

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# MMEngine's message hub and the command lines that MoCo's children save
HARMLESS = [
    (_Inert, name)
    for name in (
        'argparse.Namespace',
        'builtins.bytes',
        'builtins.getattr',
        'mmengine.logging.history_buffer.HistoryBuffer',
        'numpy.core.multiarray._reconstruct',
        'numpy.core.multiarray.scalar',
        'numpy._core.multiarray._reconstruct',
        'numpy._core.multiarray.scalar',
        'numpy.dtype',
        'numpy.ndarray',
    )
]


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint of any project on the CPU; no code that it may hold is run.

    Args:
        path (str | Path): A file that torch saved, or one of safetensors if it is called so.

    Returns:
        dict: What the file holds. MMEngine's message hub and the like come out empty.

    Raises:
        InputError: If there is no such file, it is damaged, no checkpoint, or holds code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'checkpoint {path} does not exist; name a checkpoint file')
    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        with torch.serialization.safe_globals(HARMLESS):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except UnpicklingError as error:
        if 'GLOBAL ' in str(error):
            code = str(error).split('GLOBAL ')[1].split()[0]
            raise InputError(
                f'checkpoint {path} holds code ({code}), which is not run; ask its author for the '
                'weights alone'
            ) from None
        raise _damaged(path, error) from None
    # torch raises whatever its parser stumbles over
    except Exception as error:
        raise _damaged(path, error) from None
    if not isinstance(checkpoint, Mapping):
        raise InputError(
            f'{path} is no checkpoint: it holds a {type(checkpoint).__name__}; give a file with a '
            'state dict'
        )
    return checkpoint


def write_checkpoint(contents: dict, path: str | Path) -> None:
    """Write a checkpoint in one piece: the file is there whole or as it was before.

    Args:
        contents (dict): What to save; names to tensors alone if the path ends in .safetensors.
        path (str | Path): Where to; replaced if it exists.

    Raises:
        InputError: If it cannot be written there.
    """
    path = Path(path)
    try:
        handle, partial = tempfile.mkstemp(prefix=f'.{path.name}-', dir=path.parent)
        os.close(handle)
        try:
            if path.suffix == '.safetensors':
                # it takes no two names for one memory
                save_file({name: _own(value) for name, value in contents.items()}, partial)
            else:
                torch.save(contents, partial)
            with open(partial, 'rb') as file:
                os.fsync(file.fileno())
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise
    # torch and safetensors report a full disk as errors of their own
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(f'cannot write {path}: {error}; choose another place') from error


def _own(value: Tensor) -> Tensor:
    return value.clone(memory_format=torch.contiguous_format)


def _damaged(path: Path, error: Exception) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(
        f'{path} is no whole checkpoint ({reason}); it may be cut off or of another kind: fetch or '
        'save it again'
    )
