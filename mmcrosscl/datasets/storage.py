"""Reading of files and of byte ranges of files, from disks and through fsspec."""

import hashlib
import io
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import fsspec

from mmcrosscl.errors import InputError

# bytes that are read at a time from a remote archive whose headers are read
BLOCK = 4 * 2**20
# number of files that a process keeps open
OPEN_FILES = 128


def is_remote(path: str) -> bool:
    """Return whether a path is a URL, which fsspec reads."""
    return '://' in path


def absolute(path: str | Path) -> str:
    """Return the absolute path, without symbolic links, or the URL itself."""
    return str(path) if is_remote(str(path)) else str(Path(path).expanduser().resolve())


def join(folder: str, name: str) -> str:
    """Return the path or URL of a file in a folder. An empty part is omitted."""
    return f'{folder.rstrip("/")}/{name}' if folder and name else folder or name


def is_hidden(name: str) -> bool:
    """Return whether a part of a relative path starts with a dot."""
    return any(part.startswith('.') for part in name.split('/'))


def file_system(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a URL, and the path in it.

    fsspec keeps a file system per process, so a forked process opens its own connections.

    Raises:
        InputError: If fsspec does not know the protocol, or its package is not installed.
    """
    try:
        return fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(
            f'{url} cannot be read: {str(error).rstrip(".")}; correct the URL, or install the '
            'package of fsspec for this storage, such as s3fs'
        ) from error


@contextmanager
def client_errors(url: str) -> Iterator[None]:
    """Raise an InputError for an error of a storage's client, which may have any type.

    An OSError remains, and so does any error if the URL is a local path.
    """
    try:
        yield
    except (OSError, InputError):
        raise
    except Exception as error:
        if not is_remote(url):
            raise
        raise unreadable(url, error) from error


def unreadable(url: str, error: Exception) -> InputError:
    """Return the error of a remote file or folder that cannot be read."""
    return InputError(
        f'{url} cannot be read ({type(error).__name__}: {error}); check the URL, the credentials '
        'and the network'
    )


def open_file(path: str) -> IO[bytes]:
    """Open a local or remote file for reading.

    Raises:
        OSError: If the file cannot be read.
        InputError: See :func:`file_system` and :func:`client_errors`.
    """
    if not is_remote(path):
        return open(path, 'rb')
    files, name = file_system(path)
    with client_errors(path):
        return files.open(name, 'rb', block_size=BLOCK, cache_type='readahead')


def file_state(path: str) -> tuple[int, int]:
    """Return the modification time in ns, 0 for a remote file, and the size in bytes."""
    if not is_remote(path):
        state = os.stat(path)
        return state.st_mtime_ns, state.st_size
    files, name = file_system(path)
    with client_errors(path):
        return 0, files.size(name)


def list_remote(url: str) -> tuple[list[str], int]:
    """Return the sorted paths of all files below a URL, and a hash of their names and states.

    Files and folders whose names start with a dot are omitted.

    Raises:
        InputError: If the storage cannot be read, or see :func:`file_system`.
    """
    files, root = file_system(url)
    root = root.rstrip('/')
    files.invalidate_cache()
    digest = hashlib.blake2b(digest_size=7)
    names = []
    try:
        with client_errors(url):
            found = files.find(root, detail=True)
    except OSError as error:
        raise unreadable(url, error) from error
    for path, info in sorted(found.items()):
        name = path.removeprefix(root).lstrip('/')
        if is_hidden(name):
            continue
        names.append(name)
        state = info.get('ETag') or info.get('LastModified') or info.get('mtime')
        digest.update(repr((names[-1], info['size'], str(state))).encode())
    return names, int.from_bytes(digest.digest(), 'little')


def read_url(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Return the contents of a remote file, or the bytes from ``start`` to ``end`` - 1.

    Raises:
        OSError: If the file does not exist or cannot be read. A ConnectionError if another attempt
            could succeed.
        InputError: See :func:`file_system`.
    """
    files, path = file_system(url)
    try:
        return files.cat_file(path, start=start, end=end)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    # the clients of storages raise errors of their own types
    except Exception as error:
        raise ConnectionError(f'{type(error).__name__}: {error}') from error


class RangeReader:
    """Reads byte ranges of files, which stay open for the next read.

    Reading does not move the position of a file, so forked processes can share the open files. A
    pickled reader has no open files.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[str, IO[bytes]] = OrderedDict()

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` of a local or remote file, or less at its end.

        Raises:
            OSError: If the file cannot be read.
        """
        if is_remote(path):
            return read_url(path, offset, offset + size)
        # a file that cannot be read is opened again the next time, because its handle can be stale
        file = self._files.pop(path, None) or open(path, 'rb', buffering=0)
        data = b''
        while more := os.pread(file.fileno(), size - len(data), offset + len(data)):
            data += more
        self._files[path] = file
        if len(self._files) > OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return data

    def __reduce__(self) -> tuple:
        return RangeReader, ()


def open_image(info: Mapping) -> IO[bytes]:
    """Open an image file.

    Args:
        info (Mapping): An entry of a dataset: ``img_path``, and ``byte_range`` if the image is in
            an archive.

    Raises:
        OSError: If the file cannot be read.
    """
    if 'byte_range' in info:
        return io.BytesIO(RangeReader().read(*info['byte_range']))
    return open_file(info['img_path'])


def image_size(info: Mapping) -> int:
    """Return the number of bytes of an image file. See :func:`open_image`."""
    return info['byte_range'][2] if 'byte_range' in info else file_state(info['img_path'])[1]
