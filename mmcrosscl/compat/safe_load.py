"""Reading of checkpoints that contain known objects other than tensors, without running code.

The restricted unpickler of recent releases of torch can be extended with substitutes for objects.
For older releases, this module has an unpickler with the same restrictions.
"""

import io
import os
import pickle
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, _weights_only_unpickler

# With this variable, torch.load reads only weights, even if its caller passes weights_only=False.
# It then refuses another pickle module.
FORCE_WEIGHTS_ONLY = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
# With this variable, torch.load unpickles all objects, unless its caller sets weights_only. It
# refuses every file if both variables are set.
FORCE_NO_WEIGHTS_ONLY = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


@contextmanager
def without_variables(*names: str) -> Iterator[None]:
    """Remove environment variables, and restore them after the block."""
    values = {name: os.environ.pop(name, None) for name in names}
    try:
        yield
    finally:
        for name, value in values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@without_variables(FORCE_WEIGHTS_ONLY, FORCE_NO_WEIGHTS_ONLY)
def safe_load(path: Path, substitutes: Sequence[tuple[Callable, str]]) -> object:
    """Read a file of ``torch.save`` to the CPU. Only tensors and known objects are accepted.

    Args:
        path (Path): The file.
        substitutes (Sequence[tuple[Callable, str]]): Pairs of a callable and the full name of the
            object that it replaces.

    Raises:
        UnpicklingError: If the file names another object. The message contains 'GLOBAL' and the
            name.
    """
    if supports_substitutes():
        with torch.serialization.safe_globals(list(substitutes)):
            return torch.load(path, map_location='cpu', weights_only=True)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as records:
            # torch.load would hand a TorchScript archive to torch.jit.load
            if any(name.endswith('/constants.pkl') for name in records.namelist()):
                raise pickle.UnpicklingError('WeightsUnpickler error: it is a TorchScript archive')
    # torch.load takes the functions of the pickle module from here
    restricted: Any = ModuleType('restricted_pickle')
    restricted.Unpickler = restricted_unpickler(substitutes)
    restricted.load = lambda file, **settings: restricted.Unpickler(file, **settings).load()
    return torch.load(path, map_location='cpu', pickle_module=restricted)


@cache
def supports_substitutes() -> bool:
    """Return whether torch's restricted unpickler accepts substitutes."""
    file = io.BytesIO()
    torch.save(slice(1), file)
    file.seek(0)
    try:
        with torch.serialization.safe_globals([(lambda *_: 'substitute', 'builtins.slice')]):
            return torch.load(file, weights_only=True) == 'substitute'
    except (AttributeError, pickle.UnpicklingError):
        return False


def restricted_unpickler(substitutes: Sequence[tuple[Callable, str]]) -> type:
    """Return an unpickler class that accepts the objects that torch accepts, and substitutes."""
    known = dict(_weights_only_unpickler._get_allowed_globals())
    # how protocol 2 stores bytes
    known['_codecs.encode'] = _encode
    known.update(
        {'collections.Counter': Counter, 'builtins.set': set, 'torch.device': torch.device}
    )
    known.update({name: substitute for substitute, name in substitutes})
    stand_ins = tuple(x for x, _ in substitutes if isinstance(x, type))

    # the C class does not let a subclass check BUILD, which could change a known function
    class Unpickler(pickle._Unpickler):
        # the stubs omit what only the Python class has
        stack: list
        dispatch: ClassVar[dict[int, Callable]] = dict(pickle._Unpickler.dispatch)

        def find_class(self, module: str, name: str) -> object:
            full = f'{module}.{name}'.replace('__builtin__.', 'builtins.')
            if full not in known:
                raise pickle.UnpicklingError(f'WeightsUnpickler error: GLOBAL {full} is unknown')
            return known[full]

        def load_build(self) -> None:
            if not isinstance(self.stack[-2], (OrderedDict, Tensor, *stand_ins)):
                raise pickle.UnpicklingError('WeightsUnpickler error: a state of another object')
            super().load_build()  # type: ignore[misc]

        dispatch[pickle.BUILD[0]] = load_build

    return Unpickler


def _encode(text: str, encoding: str) -> bytes:
    if encoding != 'latin1':
        raise pickle.UnpicklingError('WeightsUnpickler error: bytes in another encoding')
    return text.encode(encoding)
