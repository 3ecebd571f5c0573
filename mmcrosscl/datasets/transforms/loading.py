"""From an image file to RGB pixels."""

import io
import math
import os
import warnings

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from simplejpeg import decode_jpeg

from mmcrosscl.errors import BrokenImageError, InputError
from mmcrosscl.registry import TRANSFORMS

# EXIF orientations that swap width and height
TURNED = (5, 6, 7, 8)
# Pillow raises above it, and warns above half of it
PILLOWS_LIMIT = 2 * Image.MAX_IMAGE_PIXELS
# four channels of 16 bits
BYTES_PER_PIXEL = 8


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image as 8-bit RGB, upright.

    Grayscale, palette, CMYK, 16-bit and transparent images are converted; EXIF orientation is
    applied. Unlike in mmcv's ``LoadImageFromFile``, a truncated file is an error instead of a
    partly gray image.

    **Required Keys:**

    - img_path

    **Added Keys:**

    - img (np.ndarray): (H, W, 3) uint8, RGB.
    - img_shape (tuple): (H, W).
    - ori_shape (tuple): (H, W) of the image in the file, upright.

    Args:
        min_size (int, optional): Decode large JPEGs at a half, a quarter or an eighth of their
            size, as long as √(H·W) is at least this many pixels, which saves most of their decoding
            time. With S / √(smallest area · smallest aspect) even the smallest crop has S pixels a
            side: 580 for the published crops at 224. Defaults to None: every image at full size.
        max_pixels (int): Larger images count as broken, as do files of more than eight bytes per
            pixel: they would fill a worker's memory. At most Pillow's limit, 178,956,970.
            Defaults to 100,000,000.

    Raises:
        BrokenImageError: If the file cannot be read or decoded; :class:`UnlabeledDataset` replaces
            the image then.
        InputError: If a setting is out of range.
    """

    def __init__(self, min_size: int | None = None, max_pixels: int = 100_000_000) -> None:
        if min_size is not None and min_size < 1:
            raise InputError(f'min_size is {min_size}; give at least 1 pixel, or None')
        if not 1 <= max_pixels <= PILLOWS_LIMIT:
            raise InputError(f'max_pixels is {max_pixels}; give 1 to {PILLOWS_LIMIT}')
        self.min_size = min_size
        self.max_pixels = max_pixels

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        try:
            if '://' not in path and os.path.getsize(path) > BYTES_PER_PIXEL * self.max_pixels:
                raise ValueError('the file is larger than an image of max_pixels')
            img, ori_shape = decode_image(fileio.get(path), self.min_size, self.max_pixels)
        except UnidentifiedImageError as error:
            raise BrokenImageError(path, 'not an image in a format that Pillow knows') from error
        # codecs raise any exception on damaged data: OSError, SyntaxError, struct.error …
        except Exception as error:
            raise BrokenImageError(path, f'{type(error).__name__}: {error}') from error
        results.update(img=img, img_shape=img.shape[:2], ori_shape=ori_shape)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_size={self.min_size}, max_pixels={self.max_pixels})'


def decode_image(
    data: bytes, min_size: int | None = None, max_pixels: int = PILLOWS_LIMIT
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode an image file's bytes to RGB, upright.

    Args:
        data (bytes): The file's content.
        min_size (int, optional): See :class:`LoadImage`.
        max_pixels (int): See :class:`LoadImage`. Defaults to Pillow's limit.

    Returns:
        tuple[np.ndarray, tuple[int, int]]: (H, W, 3) uint8, and the height and width of the upright
        image in the file.

    Raises:
        ValueError: If there are more than max_pixels; nothing is decoded then.
        Exception: Any exception of Pillow if the data are damaged, truncated or not an image.
    """
    with warnings.catch_warnings():
        # Pillow warns of unusual metadata in each file that it can decode
        warnings.simplefilter('ignore')
        with Image.open(io.BytesIO(data)) as image:
            if math.prod(image.size) > max_pixels:
                raise ValueError(f'{image.width}×{image.height} pixels are more than max_pixels')
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            height, width = image.size if orientation in TURNED else image.size[::-1]
            pixels = None
            if image.format in ('JPEG', 'MPO') and image.mode in ('RGB', 'L'):
                pixels = _decode_jpeg(data, image.size, min_size)
                if pixels is not None and orientation != 1:
                    image = Image.fromarray(pixels)
                    image.getexif()[ExifTags.Base.Orientation] = orientation
                    pixels = np.array(ImageOps.exif_transpose(image))
            return _decode(image) if pixels is None else pixels, (height, width)


def _decode_jpeg(data: bytes, size: tuple[int, int], min_size: int | None) -> np.ndarray | None:
    """Decode faster than Pillow; None if only Pillow can tell whether the data are damaged."""
    reduction = 1
    while min_size and reduction < 8 and math.sqrt(math.prod(size)) >= 2 * reduction * min_size:
        reduction *= 2
    width, height = (-(-side // reduction) for side in size)
    try:
        return decode_jpeg(data, 'RGB', min_height=height, min_width=width)
    except ValueError:
        return None


def _decode(image: Image.Image) -> np.ndarray:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith(('I', 'F')):
        gray = np.asarray(image)
        # Pillow would clip values above 255 instead of scaling them
        scale = 257 if image.mode.startswith('I') else max(float(gray.max()), 1e-6) / 255
        gray = np.clip(gray / scale, 0, 255).round().astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    return np.array(image.convert('RGB'))
