"""Indexes of folders, lists and archives, which all processes and later runs share."""

import codecs
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.errors import InputError, RunError, inaccessible
from mmcrosscl.progress import MAIN_PROCESS, write_line

from .archives import is_archive, search_archives
from .folders import search_folder
from .index import Image, IndexFile, Source, write_index
from .storage import (
    absolute,
    client_errors,
    file_state,
    is_remote,
    join,
    list_remote,
    open_file,
    unreadable,
)

# environment variable with the folder of the indexes
CACHE = 'MMCROSSCL_CACHE'
# seconds after which a change results in another modification time, on any file system
RESOLUTION = 2
# seconds that other processes wait, so that the main process, which has the bar, writes the index
HEAD_START = 1
# threads that read the states of sources, and number of states that each reads at a time
THREADS, STATES = 32, 64


def image_index(
    folder: str, extensions: tuple[str, ...], list_file: str = '', rebuild: bool = False
) -> IndexFile:
    """Return the index of the images in a folder, and write the index if it is not current.

    An index is current if the folders, archives and the list that were read have not changed since,
    by modification time and size. One process writes the index, and the others wait. The images are
    those of the list, in its order, or all images below the folder, sorted by path. If the folder
    has no images, they are all images in its tar and zip files.

    Args:
        folder (str): Folder or archive: a path, or a URL that fsspec can read.
        extensions (tuple[str, ...]): Extensions of image files in lower case.
        list_file (str): Text file with one path per line, relative to the folder. Defaults to ''.
        rebuild (bool): Write the index also if it is current. Defaults to False.

    Raises:
        InputError: If a path in the list leads out of the folder, an archive is damaged, or the
            index cannot be written, or the folder or the list cannot be read.
        RunError: If a local archive or list fails while it is read.
    """
    place = folder if is_remote(folder) else os.path.realpath(folder)
    key = json.dumps([place, list_file and absolute(list_file), sorted(extensions)])
    path = cache_folder() / f'{hashlib.sha256(key.encode()).hexdigest()[:32]}.index'
    listing = list_remote(folder) if is_remote(folder) and not list_file else None
    before = _identity(path)
    if not rebuild and (index := _current(path, folder, listing)):
        return index
    if not MAIN_PROCESS:
        time.sleep(HEAD_START)
    with _locked(path):
        # another process has written it meanwhile
        if _identity(path) != before:
            return IndexFile(path)
        images = _images(folder, extensions, list_file, listing)
        atomic_write(path, lambda partial: write_index(partial, *images))
        return IndexFile(path)


def cache_folder() -> Path:
    """Return the folder of the indexes, and create it.

    It is ``MMCROSSCL_CACHE``, or ``mmcrosscl`` in ``XDG_CACHE_HOME`` or ``~/.cache``. If the latter
    cannot be written to, it is a folder of the user in the folder for temporary files.

    Raises:
        InputError: If ``MMCROSSCL_CACHE`` cannot be written to.
    """
    chosen = os.environ.get(CACHE)
    cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    folder = Path(chosen or os.path.join(cache, 'mmcrosscl')).expanduser()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK | os.X_OK):
        return folder
    if chosen:
        raise InputError(
            f'{CACHE} is {chosen}, which is no folder that can be written to; change it'
        )
    folder = Path(tempfile.gettempdir(), f'mmcrosscl-{os.getuid()}')
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise InputError(f'{folder} belongs to another user; set {CACHE} to a folder of your own')
    return folder


def _current(path: Path, folder: str, listing: tuple[list[str], int] | None) -> IndexFile | None:
    """Return the index if it exists and nothing has changed since it was written."""
    try:
        index = IndexFile(path)
        if listing is not None:
            return index if index.settings['listing'] == listing[1] else None
        if _unchanged(index, folder):
            return index
    # there is no index, or it is damaged or of another release, or a folder is missing
    except (OSError, ValueError, KeyError):
        pass
    return None


def _unchanged(index: IndexFile, folder: str) -> bool:
    """Return whether all sources of an index have the state that is in the index."""

    def unchanged(begin: int) -> bool:
        return all(
            modified and file_state(_source(folder, name)) == (modified, size)
            for name, modified, size in index.sources(begin, begin + STATES)
        )

    # on network storage, each state takes the time of a round trip
    with ThreadPoolExecutor(THREADS) as pool:
        # the iterator of `map` cancels what has not begun when `all` drops it
        return all(pool.map(unchanged, range(0, index.source_count, STATES)))


def _images(
    folder: str,
    extensions: tuple[str, ...],
    list_file: str,
    listing: tuple[list[str], int] | None,
) -> tuple[Iterator[Image | str], list[Source], dict]:
    """Return the arguments of :func:`write_index`. The last two are complete after the first."""
    sources: list[Source] = []
    settings = dict(listing=listing and listing[1], ignored_archives=0)

    def is_image(name: str) -> bool:
        return name.lower().endswith(extensions)

    def search() -> Iterator[Image | str]:
        try:
            yield from _search()
        except OSError as error:
            # the writer of the index would report that the index cannot be written
            if error.filename is not None:
                raise inaccessible(error) from error
            place = _source(folder, sources[-1].name) if sources else list_file or folder
            if is_remote(place):
                raise unreadable(place, error) from error
            raise RunError(
                f'{place} cannot be read: {error.strerror or error}; check its storage'
            ) from error

    def _search() -> Iterator[Image | str]:
        started = time.time_ns()
        if list_file:
            sources.append(Source(absolute(list_file), *file_state(list_file)))
            with client_errors(list_file):
                yield from read_list(list_file, folder)
        else:
            archives, found = [], False
            for name in _files():
                if is_archive(join(folder, name)):
                    archives.append(name)
                elif is_image(name):
                    found = True
                    yield name
            if found:
                settings['ignored_archives'] = len(archives)
            else:
                with client_errors(folder):
                    yield from search_archives(folder, archives, is_image, sources)
        # a change within the resolution of the file system's times could not be seen
        latest = started - RESOLUTION * 10**9
        sources[:] = [s if s.modified < latest else s._replace(modified=0) for s in sources]

    def _files() -> Iterator[str]:
        if listing is not None:
            return iter(listing[0])
        if is_archive(folder) and not os.path.isdir(folder):
            return iter([''])
        return search_folder(folder, lambda name: is_image(name) or is_archive(name), sources)

    return search(), sources, settings


def _source(folder: str, name: str) -> str:
    """Return the path or URL of a source, which is below the folder unless it is the list."""
    return name if is_remote(name) or os.path.isabs(name) else join(folder, name)


def read_list(list_file: str, folder: str) -> Iterator[str]:
    """Yield the paths in a list, relative to the folder.

    Raises:
        InputError: If a path leads out of the folder, or a line contains NUL, as in UTF-16.
    """
    prefix = os.path.join(folder, '')
    with open_file(list_file) as file:
        for number, line in enumerate(file):
            if number == 0:
                line = line.removeprefix(codecs.BOM_UTF8)
            name = os.fsdecode(line.rstrip(b'\r\n'))
            if not name:
                continue
            if '\0' in name:
                raise InputError(
                    f'image list {list_file} is not text in UTF-8; save it with this encoding'
                )
            # only the path is checked: a symbolic link may lead out, as in a search of the folder
            inner = name.removeprefix(prefix)
            if inner.startswith('/') or '..' in inner.split('/'):
                raise InputError(
                    f'image list {list_file} contains {name}, which is not below {folder}; list '
                    'only images below this folder'
                )
            yield inner


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        state = path.stat()
        return state.st_ino, state.st_mtime_ns
    return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process writes the index, on any machine if the file system can."""
    with open(path.with_suffix('.lock'), 'w') as file:
        # some network file systems have no locks; processes then write the same index at once
        with suppress(OSError):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if MAIN_PROCESS:
                    write_line('Waiting for another process that indexes the same images')
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
