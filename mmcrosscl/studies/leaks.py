"""Test images that are also among the training images."""

import hashlib
import os
from collections.abc import Iterable

from mmcrosscl.progress import track


def shared_images(test: Iterable[str], training: Iterable[str]) -> list[tuple[str, str]]:
    """Find test images whose file has the same content as a training image of any name.

    Only files of equal size are read. An image that was encoded again or resized is not found.

    Args:
        test (Iterable[str]): Paths of the test images.
        training (Iterable[str]): Paths of the training images.

    Returns:
        list[tuple[str, str]]: Test image and training image of each pair, in the order of
        ``training``.
    """
    sizes: dict[int, list[str]] = {}
    for path in test:
        sizes.setdefault(os.path.getsize(path), []).append(path)
    hashed: dict[int, dict[bytes, str]] = {}
    shared = []
    for path in track(list(training), 'Comparing images', unit='images'):
        size = os.path.getsize(path)
        if size not in sizes:
            continue
        if size not in hashed:
            hashed[size] = {_digest(other): other for other in sizes[size]}
        if (other := hashed[size].get(_digest(path))) is not None:
            shared.append((other, path))
    return shared


def _digest(path: str) -> bytes:
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').digest()
