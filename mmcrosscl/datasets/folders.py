"""Search of a folder for images, in sorted order and in constant memory."""

import errno
import heapq
import os
from collections.abc import Callable, Iterator
from itertools import islice
from tempfile import TemporaryFile
from typing import IO

from mmcrosscl.progress import progress_bar

from .index import Source

# number of names of a folder that are sorted in memory
CHUNK = 500_000


def search_folder(
    folder: str, is_image: Callable[[str], bool], sources: list[Source]
) -> Iterator[str]:
    """Yield the paths of all images below a folder, relative to it, in sorted order.

    Images are searched at any depth. Symbolic links are followed. Files and folders whose names
    begin with a dot are skipped. Memory does not grow with the number of images: the names of
    folders with more than :data:`CHUNK` entries are sorted in temporary files.

    Args:
        folder (str): The folder.
        is_image (Callable): Returns whether a file with this name is an image.
        sources (list[Source]): The list to which each folder is appended before it is read.

    Raises:
        OSError: If a folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()

    def enter(relative: str) -> Iterator[str]:
        path = os.path.join(folder, relative)
        state = os.stat(path)
        # a symbolic link may lead back to a parent folder
        if (state.st_dev, state.st_ino) in seen:
            return iter(())
        seen.add((state.st_dev, state.st_ino))
        sources.append(Source(relative, state.st_mtime_ns, state.st_size))
        return _sorted(_entries(path, is_image))

    found = 0
    with progress_bar(f'Indexing {folder}', unit='images') as bar:
        # the parents of the current folder, and what is left of them
        prefixes, waiting = [''], [enter('')]
        while waiting:
            for name in waiting[-1]:
                path = prefixes[-1] + name
                if name.endswith('/'):
                    prefixes.append(path)
                    waiting.append(enter(path))
                    break
                yield path
                found += 1
                if found % 1000 == 0 and bar.due:
                    bar.update(found)
            else:
                waiting.pop()
                prefixes.pop()


def _entries(folder: str, is_image: Callable[[str], bool]) -> Iterator[str]:
    """Yield the images and sub-folders of a folder. The names of sub-folders end in a slash.

    With the slash, the order within each folder results in the order of all paths.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError as error:
                # a symbolic link that leads to itself is dangling
                if error.errno != errno.ELOOP:
                    raise
                continue
            if is_folder:
                yield entry.name + '/'
            # pipes are excluded, because reading a pipe would block
            elif is_image(entry.name) and entry.is_file():
                yield entry.name


def _sorted(names: Iterator[str]) -> Iterator[str]:
    chunk = sorted(islice(names, CHUNK))
    if len(chunk) < CHUNK:
        return iter(chunk)
    runs = []
    while chunk:
        file = TemporaryFile()
        file.write(b''.join(os.fsencode(name) + b'\0' for name in chunk))
        runs.append(_read_names(file))
        chunk = sorted(islice(names, CHUNK))
    return heapq.merge(*runs)


def _read_names(file: IO[bytes]) -> Iterator[str]:
    file.seek(0)
    rest = b''
    while block := file.read(2**20):
        *names, rest = (rest + block).split(b'\0')
        yield from map(os.fsdecode, names)
