"""From an image file of any kind to RGB pixels."""

import io
import math
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


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image as 8-bit RGB, upright, whole or not at all.

    Grey, palette, CMYK, 16-bit and transparent images are converted; EXIF orientation is applied.
    Unlike mmcv's ``LoadImageFromFile`` a truncated file is an error and not a half-grey image.

    **Required Keys:**

    - img_path

    **Added Keys:**

    - img (np.ndarray): (H, W, 3) uint8, RGB.
    - img_shape (tuple): (H, W).
    - ori_shape (tuple): (H, W) of the whole image, upright.

    Args:
        min_size (int, optional): Decode large JPEGs at a half, a quarter or an eighth of their
            size, as long as √(H·W) stays at least this, which saves most of the time that large
            photographs take. For views of S pixels, S / √(least area · least aspect) is where even
            the smallest crop has S pixels a side: 580 for the published crops at 224. Defaults to
            None: every image at its own size.

    Raises:
        BrokenImageError: If the file cannot be read or decoded; :class:`UnlabelledDataset` takes
            another image then.
        InputError: If min_size is below 1.
    """

    def __init__(self, min_size: int | None = None) -> None:
        if min_size is not None and min_size < 1:
            raise InputError(f'min_size is {min_size}; give at least 1 pixel, or None')
        self.min_size = min_size

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        try:
            img, ori_shape = decode_image(fileio.get(path), self.min_size)
        except UnidentifiedImageError as error:
            raise BrokenImageError(path, 'no image in a format that Pillow knows') from error
        # codecs raise whatever comes to them on damaged data: OSError, SyntaxError, struct.error …
        except Exception as error:
            raise BrokenImageError(path, f'{type(error).__name__}: {error}') from error
        results.update(img=img, img_shape=img.shape[:2], ori_shape=ori_shape)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_size={self.min_size})'


def decode_image(data: bytes, min_size: int | None = None) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode an image file's bytes to RGB, upright.

    Args:
        data (bytes): The whole file.
        min_size (int, optional): See :class:`LoadImage`.

    Returns:
        tuple[np.ndarray, tuple[int, int]]: (H, W, 3) uint8, and the height and width of the whole
        upright image.

    Raises:
        Exception: Whatever Pillow raises where the data are damaged, cut off or no image.
    """
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, file by file; what it can decode is good enough here
        warnings.simplefilter('ignore')
        with Image.open(io.BytesIO(data)) as image:
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
    """What Pillow gives, sooner; None where only Pillow may say whether the data are sound."""
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
        grey = np.asarray(image)
        # Pillow would clip what is above 255 instead of scaling it
        scale = 257 if image.mode.startswith('I') else max(float(grey.max()), 1e-6) / 255
        grey = np.clip(grey / scale, 0, 255).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(image.convert('RGB'))
