"""Archives with small images, for tests."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def png(value: int) -> bytes:
    """Return an image whose pixels all have this value."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(buffer, 'png')
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes], **settings) -> None:
    """Write a tar file with these members."""
    with tarfile.open(path, 'w', **settings) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Write a zip file with these members."""
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
