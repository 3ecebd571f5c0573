"""Index of the images of a dataset: their names and, in archives, their byte ranges.

An index is a file that all processes map into memory. It has the following parts, in this order:

1. the names of the images, UTF-8 without separators;
2. the end of each name in part 1, uint64;
3. only for archives: number of the archive, offset and size in bytes of each image;
4. the names of the sources, UTF-8: the folders, archives or the list that were read;
5. the end of each name in part 4, uint64;
6. modification time in ns and size in bytes of each source;
7. the settings in JSON;
8. the length of part 7, uint64, and :data:`MAGIC`.

All numbers are little-endian.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple

import numpy as np

from mmcrosscl.errors import RunError

MAGIC = b'mmcrosscl index 1\n'
ENDS = np.dtype('<u8')
RANGES = np.dtype([('archive', '<u4'), ('offset', '<u8'), ('size', '<u8')])
STATES = np.dtype([('modified', '<i8'), ('size', '<u8')])
# number of images that are written at a time
CHUNK = 65_536


class Image(NamedTuple):
    """An image in an archive.

    Args:
        name (str): Path of the archive, relative to the folder of the dataset, and of the member.
        archive (int): Number of the archive among the sources.
        offset (int): First byte in the archive.
        size (int): Number of bytes in the archive.
    """

    name: str
    archive: int
    offset: int
    size: int


class Source(NamedTuple):
    """A folder, list or archive whose state tells whether an index is current.

    Args:
        name (str): Path relative to the folder of the dataset, '' for the folder itself.
        modified (int): Modification time in ns. 0 if it does not show all changes.
        size (int): Size in bytes.
    """

    name: str
    modified: int
    size: int


class IndexFile:
    """An index that is mapped into memory.

    Names and byte ranges are read from the file when they are needed, so an open index takes no
    memory of its own, and processes share the pages of the file. A pickled index contains its path.

    Attributes:
        digest (str): Digest of all names and byte ranges, in order.
        settings (dict): The settings that were passed to :func:`write_index`.

    Args:
        path (str | Path): The file.

    Raises:
        ValueError: If the file is not a complete index.
        OSError: If the file cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        data = np.memmap(self.path, np.uint8, mode='r')
        end = len(data) - len(MAGIC) - ENDS.itemsize
        if end < 0 or data[end + ENDS.itemsize :].tobytes() != MAGIC:
            raise ValueError(f'{path} is not a complete index')
        length = int(data[end : end + ENDS.itemsize].view(ENDS)[0])
        footer = json.loads(data[max(end - length, 0) : end].tobytes())
        self.digest: str = footer['digest']
        self.settings: dict = footer['settings']
        parts, begin = [], 0
        for size in footer['parts']:
            parts.append(data[begin : begin + size])
            begin += size
        self._names, ends, ranges, self._sources, source_ends, states = parts
        self._ends = ends.view(ENDS)
        self._ranges = ranges.view(RANGES)
        self._source_ends = source_ends.view(ENDS)
        self._states = states.view(STATES)

    def __len__(self) -> int:
        return len(self._ends)

    def __reduce__(self) -> tuple:
        return _reopen, (self.path, self.digest)

    def name(self, index: int) -> str:
        """Return the name of an image."""
        return _text(self._names, self._ends, index)

    def byte_range(self, index: int) -> tuple[str, int, int] | None:
        """Return the archive of an image, its first byte and its size, or None for a file."""
        if not len(self._ranges):
            return None
        archive, offset, size = self._ranges[index].tolist()
        return _text(self._sources, self._source_ends, archive), offset, size

    @property
    def source_count(self) -> int:
        """Number of the sources."""
        return len(self._states)

    def sources(self, begin: int, end: int) -> Iterator[Source]:
        """Yield the sources from number ``begin`` to ``end`` - 1."""
        first = _begin(self._source_ends, begin)
        ends = (self._source_ends[begin:end] - ENDS.type(first)).tolist()
        names = self._sources[first : first + (ends or [0])[-1]].tobytes()
        for start, stop, state in zip([0, *ends], ends, self._states[begin:end].tolist()):
            yield Source(os.fsdecode(names[start:stop]), *state)


def write_index(
    path: Path, images: Iterable[Image | str], sources: list[Source], settings: dict
) -> None:
    """Write an index file. The memory does not grow with the number of images.

    Args:
        path (Path): File to write. It is not written atomically.
        images (Iterable): The images in the order of the dataset: names of files, or
            :class:`Image` for images in archives.
        sources (list[Source]): The sources, which may be appended to while ``images`` is iterated.
        settings (dict): Values for JSON.

    Raises:
        OSError: If the file cannot be written.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open(path, 'wb') as file, TemporaryFile(dir=path.parent) as ends_file:
        with TemporaryFile(dir=path.parent) as ranges_file:
            end, remaining = 0, iter(images)
            while chunk := list(islice(remaining, CHUNK)):
                found = [image[1:] for image in chunk if isinstance(image, Image)]
                ranges = np.array(found, RANGES).tobytes()
                text, ends = _pack([x.name if isinstance(x, Image) else x for x in chunk])
                ends_text = (ends + end).astype(ENDS).tobytes()
                ranges_file.write(ranges)
                file.write(text)
                ends_file.write(ends_text)
                for data in (ranges, text, ends_text):
                    digest.update(data)
                end += len(text)
            parts = [end, _append(ends_file, file), _append(ranges_file, file)]
        text, ends = _pack([source.name for source in sources])
        states = np.array([source[1:] for source in sources], STATES)
        for part in (text, ends.tobytes(), states.tobytes()):
            file.write(part)
            parts.append(len(part))
        footer = dict(digest=digest.hexdigest(), settings=settings, parts=parts)
        data = json.dumps(footer).encode()
        file.write(data + np.array(len(data), ENDS).tobytes() + MAGIC)


def _pack(names: list[str]) -> tuple[bytes, np.ndarray]:
    # the name of a file can be invalid UTF-8
    encoded = [os.fsencode(name) for name in names]
    return b''.join(encoded), np.cumsum([len(name) for name in encoded], dtype=ENDS)


def _append(part: IO[bytes], file: IO[bytes]) -> int:
    size = part.tell()
    part.seek(0)
    shutil.copyfileobj(part, file, 2**20)
    return size


def _text(names: np.ndarray, ends: np.ndarray, index: int) -> str:
    return os.fsdecode(names[_begin(ends, index) : int(ends[index])].tobytes())


def _begin(ends: np.ndarray, index: int) -> int:
    return int(ends[index - 1]) if index > 0 else 0


def _reopen(path: Path, digest: str) -> IndexFile:
    index = IndexFile(path)
    if index.digest != digest:
        raise RunError(
            f'{path} was replaced because the images changed while a run was using them; rerun '
            'with --resume'
        )
    return index
