"""Images in tar files, as WebDataset and img2dataset write them, and in uncompressed zip files."""

import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from mmcrosscl.errors import InputError
from mmcrosscl.progress import progress_bar

from .index import Image, Source
from .storage import file_state, is_hidden, join, open_file

EXTENSIONS = ('.tar', '.zip')
# errors of damaged archives
DAMAGES = (tarfile.TarError, zipfile.BadZipFile, NotImplementedError, EOFError, ValueError)
# the header of a member in a zip file: signature, other fields, length of the name and of the rest
ZIP_HEADER = struct.Struct('<4s22xHH')
ZIP_SIGNATURE = b'PK\x03\x04'

Members = Iterator[tuple[str, int, int]]


def is_archive(name: str) -> bool:
    """Return whether a file with this name is an archive."""
    return name.lower().endswith(EXTENSIONS)


def search_archives(
    folder: str, names: Sequence[str], is_image: Callable[[str], bool], sources: list[Source]
) -> Iterator[Image]:
    """Yield the images in archives, in the order of their bytes.

    Only the headers of the members are read, and nothing is extracted. Links and other special
    members are skipped, as are names with a part that begins with a dot.

    Args:
        folder (str): Folder of the archives, a path or a URL.
        names (Sequence[str]): Paths of the archives, relative to the folder. '' is ``folder``.
        is_image (Callable): Returns whether a file with this name is an image.
        sources (list[Source]): The list to which each archive is appended before it is read.

    Raises:
        InputError: If an archive is damaged, truncated, compressed or encrypted.
    """
    found = 0
    with progress_bar(f'Indexing {len(names)} archives', unit='images') as bar:
        for name in names:
            path = join(folder, name)
            number, (modified, length) = len(sources), file_state(path)
            sources.append(Source(name, modified, length))
            members = _zip_members if name.lower().endswith('.zip') else _tar_members
            try:
                with open_file(path) as file:
                    for member, offset, size in members(file, is_image):
                        if not 0 <= size <= length - offset:
                            raise EOFError(f'{member} is truncated')
                        yield Image(join(name, member), number, offset, size)
                        found += 1
                        if found % 1000 == 0 and bar.due:
                            bar.update(found)
            except DAMAGES as error:
                raise InputError(
                    f'archive {path} cannot be used: {error}; replace or remove it'
                ) from error


def _tar_members(file: IO[bytes], is_image: Callable[[str], bool]) -> Members:
    """Yield the name, the first byte and the size of each image."""
    with tarfile.open(fileobj=file, mode='r:') as archive:
        while (member := archive.next()) is not None:
            if member.isreg() and not member.issparse() and _selected(member.name, is_image):
                yield member.name, member.offset_data, member.size
            # tarfile keeps all members, which would take a gigabyte for a million of them
            archive.members.clear()  # type: ignore[attr-defined]
        # tarfile takes a damaged header for the end of the archive
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b'\0'):
            raise tarfile.ReadError(f'the header at byte {archive.offset} is damaged')


def _zip_members(file: IO[bytes], is_image: Callable[[str], bool]) -> Members:
    """Yield the name, the first byte and the size of each image."""
    with zipfile.ZipFile(file) as archive:
        members = [info for info in archive.infolist() if _selected(info.filename, is_image)]
    for info in sorted(members, key=lambda info: info.header_offset):
        if info.flag_bits & 1:
            raise ValueError(f'{info.filename} is encrypted')
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f'{info.filename} is compressed; use a tar file, or zip -0')
        file.seek(info.header_offset)
        header = file.read(ZIP_HEADER.size)
        if len(header) < ZIP_HEADER.size or not header.startswith(ZIP_SIGNATURE):
            raise ValueError(f'the header of {info.filename} is damaged')
        _, name, extra = ZIP_HEADER.unpack(header)
        yield info.filename, info.header_offset + ZIP_HEADER.size + name + extra, info.file_size


def _selected(member: str, is_image: Callable[[str], bool]) -> bool:
    # macOS adds hidden files to archives; './' is the prefix of all members in many tar files
    return is_image(member) and not is_hidden(member.removeprefix('./'))
