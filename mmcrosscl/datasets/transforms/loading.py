"""From an image file of any kind to RGB pixels."""

import io
import warnings

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from PIL import Image, ImageOps, UnidentifiedImageError

from mmcrosscl.errors import BrokenImageError
from mmcrosscl.registry import TRANSFORMS


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
    - ori_shape (tuple): (H, W).

    Raises:
        BrokenImageError: If the file cannot be read or decoded; :class:`UnlabelledDataset` takes
            another image then.
    """

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        try:
            img = decode_image(fileio.get(path))
        except UnidentifiedImageError as error:
            raise BrokenImageError(path, 'no image in a format that Pillow knows') from error
        # codecs raise whatever comes to them on damaged data: OSError, SyntaxError, struct.error …
        except Exception as error:
            raise BrokenImageError(path, f'{type(error).__name__}: {error}') from error
        results.update(img=img, img_shape=img.shape[:2], ori_shape=img.shape[:2])
        return results


def decode_image(data: bytes) -> np.ndarray:
    """Decode an image file's bytes to (H, W, 3) uint8 RGB, upright.

    Raises:
        Exception: Whatever Pillow raises where the data are damaged, cut off or no image.
    """
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, file by file; what it can decode is good enough here
        warnings.simplefilter('ignore')
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith(('I', 'F')):
                grey = np.asarray(image)
                # Pillow would clip what is above 255 instead of scaling it
                scale = 257 if image.mode.startswith('I') else max(float(grey.max()), 1e-6) / 255
                grey = np.clip(grey / scale, 0, 255).round().astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            return np.array(image.convert('RGB'))
