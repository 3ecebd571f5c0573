"""Test images that are also among the training images."""

import hashlib
from collections.abc import Iterable, Mapping

from mmcrosscl.errors import InputError
from mmcrosscl.progress import track

from .storage import image_size, open_image

# leaked images that a message lists
SHOWN = 5


def check_leaks(test: Iterable[Mapping], training: Iterable[Mapping]) -> None:
    """Check that no test image is among the training images; see :func:`shared_images`.

    Raises:
        InputError: If a test image is among them, or an image does not exist.
    """
    try:
        shared = shared_images(test, training)
    except FileNotFoundError as error:
        raise InputError(
            f'image {error.filename} does not exist; correct the folder of the images'
        ) from error
    if shared:
        lines = '\n'.join(f'  {a}  =  {b}' for a, b in shared[:SHOWN])
        more = f'\n  and {len(shared) - SHOWN} more' if len(shared) > SHOWN else ''
        found = '1 test image is' if len(shared) == 1 else f'{len(shared)} test images are'
        raise InputError(
            f'{found} also among the training images; remove them from one of the two:\n'
            f'{lines}{more}'
        )


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
