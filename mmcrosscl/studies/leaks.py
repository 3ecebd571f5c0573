"""Test images that are also among the training images."""

import hashlib
from collections.abc import Iterable, Mapping

from mmcrosscl.datasets import image_size, open_image
from mmcrosscl.progress import track


def shared_images(test: Iterable[Mapping], training: Iterable[Mapping]) -> list[tuple[str, str]]:
    """Find test images whose file has the same content as a training image of any name.

    Only files of equal size are read. An image that was encoded again or resized is not found.

    Args:
        test (Iterable[Mapping]): The test images, as entries of datasets with ``img_path``.
        training (Iterable[Mapping]): The training images.

    Returns:
        list[tuple[str, str]]: Paths of the test image and the training image, in the order of
        ``training``.
    """
    sizes: dict[int, list[Mapping]] = {}
    for info in test:
        sizes.setdefault(image_size(info), []).append(info)
    hashed: dict[int, dict[bytes, str]] = {}
    shared = []
    for info in track(list(training), 'Comparing images', unit='images'):
        size = image_size(info)
        if size not in sizes:
            continue
        if size not in hashed:
            hashed[size] = {_digest(other): other['img_path'] for other in sizes[size]}
        if (other := hashed[size].get(_digest(info))) is not None:
            shared.append((other, info['img_path']))
    return shared


def _digest(info: Mapping) -> bytes:
    with open_image(info) as file:
        return hashlib.sha256(file.read()).digest()
