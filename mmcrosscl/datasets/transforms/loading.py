"""Loading of image files as RGB pixels."""

import errno
import io
import math
import os
import time
import warnings
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from simplejpeg import decode_jpeg, decode_jpeg_header

from mmcrosscl.datasets.storage import RangeReader, is_remote, read_url
from mmcrosscl.errors import BrokenImageError, InputError, RunError
from mmcrosscl.registry import TRANSFORMS

# the first bytes of a JPEG, and how its orientation begins in EXIF and XMP
JPEG = b'\xff\xd8\xff'
ORIENTATIONS = (b'Exif\0\0', b'tiff:Orientation')
# EXIF orientations that swap width and height
TURNED = (5, 6, 7, 8)
# Pillow raises an error for more pixels, and a warning for more than half of them. Applications can
# set Pillow's limit to None; the number is its default.
PILLOWS_LIMIT = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)
# a pixel with four channels of 16 bits
BYTES_PER_PIXEL = 8
# error codes of a storage or machine that fails, besides those of TimeoutError and ConnectionError
FAILURES = (
    errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
    errno.ENETUNREACH, errno.ENODEV, errno.ENOMEM, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
# seconds before each retry after such an error
PAUSES = (0.1, 0.4, 1.6)


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image as 8-bit RGB in upright orientation.

    Grayscale, palette, CMYK, 16-bit and transparent images are converted. Floating-point images
    are scaled from 0, or their minimum if it is negative, to their maximum; NaN/Inf pixels get the
    lower value. EXIF orientation is applied. A truncated file raises an error, whereas mmcv's
    ``LoadImageFromFile`` returns a partly gray image.

    **Required Keys:**

    - img_path
    - byte_range (tuple, optional): For an image in an archive: path of the archive, first byte and
      number of bytes.

    **Added Keys:**

    - img (np.ndarray): (H, W, 3) uint8, RGB.
    - img_shape (tuple): (H, W).
    - ori_shape (tuple): (H, W) of the upright image at full size.

    Args:
        min_size (int, optional): Minimum of √(H·W) after decoding. Large JPEGs are decoded at 1/2,
            1/4 or 1/8 of their size if √(H·W) does not fall below this minimum, which saves most of
            the decoding time. With S / √(minimum crop area ratio · minimum aspect ratio), the
            smallest crop has at least S pixels per side. For the published crops at S = 224, this
            value is 580. Defaults to None, which decodes every image at full size.
        max_pixels (int): Maximum number of pixels. Images with more pixels and files of more than
            8 · ``max_pixels`` bytes count as broken, because they could fill the memory of a
            worker. Must not exceed Pillow's limit, 178,956,970. Defaults to 100,000,000.
        backend_args (dict, optional): Arguments of the file backend that reads the image, as in
            mmcv's ``LoadImageFromFile``. Defaults to None: paths are read from the disk, and URLs
            by fsspec.

    Raises:
        BrokenImageError: If the file cannot be read or decoded. :class:`UnlabeledDataset` then
            replaces the image.
        RunError: If the storage fails, also after three retries.
        InputError: If a setting is out of range, or fsspec cannot read a URL.
    """

    def __init__(
        self,
        min_size: int | None = None,
        max_pixels: int = 100_000_000,
        backend_args: dict | None = None,
    ) -> None:
        if min_size is not None and min_size < 1:
            raise InputError(f'min_size is {min_size}; set a value of at least 1, or None')
        if not 1 <= max_pixels <= PILLOWS_LIMIT:
            raise InputError(f'max_pixels is {max_pixels}; set a value from 1 to {PILLOWS_LIMIT}')
        self.min_size = min_size
        self.max_pixels = max_pixels
        self.backend_args = backend_args
        self._archives = RangeReader()

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        try:
            data = self._read(results, PAUSES)
            img, ori_shape = decode_image(data, self.min_size, self.max_pixels)
        except (RunError, InputError):
            raise
        except UnidentifiedImageError as error:
            raise BrokenImageError(path, 'not an image in a format that Pillow supports') from error
        # codecs raise errors of many types for damaged data, such as SyntaxError and struct.error
        except Exception as error:
            raise BrokenImageError(path, f'{type(error).__name__}: {error}') from error
        results.update(img=img, img_shape=img.shape[:2], ori_shape=ori_shape)
        return results

    def _read(self, results: dict, pauses: Sequence[float]) -> bytes:
        path = results['img_path']
        try:
            if 'byte_range' in results:
                self._check_size(results['byte_range'][2])
                return self._archives.read(*results['byte_range'])
            # the size of a remote file is unknown before the file is read
            if self.backend_args is None and is_remote(path):
                return read_url(path)
            if self.backend_args is None:
                self._check_size(os.path.getsize(path))
            return fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            connection = isinstance(error, TimeoutError | ConnectionError)
            if not connection and error.errno not in FAILURES:
                raise
            if not pauses:
                raise RunError(
                    f'cannot read {path}: {error.strerror or error} ({len(PAUSES) + 1} attempts); '
                    'fix the storage, or remove the file if only this one fails, then rerun with '
                    '--resume'
                ) from error
        time.sleep(pauses[0])
        return self._read(results, pauses[1:])

    def _check_size(self, size: int) -> None:
        if size > BYTES_PER_PIXEL * self.max_pixels:
            raise ValueError(f'the file has more than {BYTES_PER_PIXEL} · max_pixels bytes')

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(min_size={self.min_size}, max_pixels={self.max_pixels}, '
            f'backend_args={self.backend_args})'
        )


def decode_image(
    data: bytes, min_size: int | None = None, max_pixels: int = PILLOWS_LIMIT
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode the bytes of an image file to RGB in upright orientation.

    Args:
        data (bytes): Contents of the file.
        min_size (int, optional): See :class:`LoadImage`.
        max_pixels (int): See :class:`LoadImage`. Defaults to Pillow's limit.

    Returns:
        tuple[np.ndarray, tuple[int, int]]: The image, (H, W, 3) uint8, and the height and width of
        the upright image at full size.

    Raises:
        ValueError: If the image has more than ``max_pixels`` pixels. It is not decoded then.
        Exception: Any exception of Pillow, if the data are damaged, truncated or not an image.
    """
    if (plain := _decode_plain_jpeg(data, min_size, max_pixels)) is not None:
        return plain
    with warnings.catch_warnings():
        # Pillow warns about unusual metadata even if it can decode the file
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
                    turned = Image.fromarray(pixels)
                    turned.getexif()[ExifTags.Base.Orientation] = orientation
                    pixels = np.array(ImageOps.exif_transpose(turned))
            if pixels is None:
                pixels = _decode(image)
                # some readers of Pillow, such as that of TIFF, have applied the orientation already
                height, width = pixels.shape[:2]
            return pixels, (height, width)


def _decode_plain_jpeg(
    data: bytes, min_size: int | None, max_pixels: int
) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Decode a JPEG in RGB or grayscale that has no orientation. Return None for other files.

    Pillow would take a tenth of a worker's time per image to read the headers.
    """
    if not data.startswith(JPEG) or any(key in data for key in ORIENTATIONS):
        return None
    try:
        height, width, colors, _ = decode_jpeg_header(data)
    except ValueError:
        return None
    if colors not in ('YCbCr', 'RGB', 'Gray') or height * width > max_pixels:
        return None
    pixels = _decode_jpeg(data, (width, height), min_size)
    return None if pixels is None else (pixels, (height, width))


def _decode_jpeg(data: bytes, size: tuple[int, int], min_size: int | None) -> np.ndarray | None:
    """Decode faster than Pillow. Return None after an error, which Pillow may be able to handle."""
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
        gray, scale = np.asarray(image), 257.0
        # Pillow would clip values above 255 instead of scaling them
        if image.mode.startswith('F'):
            finite = np.isfinite(gray)
            low = gray.min(where=finite, initial=0)
            gray = np.where(finite, gray, low) - low
            scale = max(float(gray.max()), 1e-6) / 255
        gray = np.clip(gray / scale, 0, 255).round().astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    return np.array(image.convert('RGB'))
