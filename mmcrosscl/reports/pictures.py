"""Pictures that are contained in the page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

# pictures above this number of bytes are compressed with losses
LARGE = 400_000
# largest width in pixels
WIDTH = 1600


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI.

    Attributes:
        uri: The data URI.
        width: Width in pixels.
        height: Height in pixels.
        caption: Caption.
    """

    uri: str
    width: int
    height: int
    caption: str


def picture(source: Path | np.ndarray, caption: str) -> Picture:
    """Return a picture for the page.

    Args:
        source (Path | np.ndarray): PNG file, or (H, W, 3) uint8 pixels.
        caption (str): Caption.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is not a PNG, or is too large to be decoded.
    """
    try:
        opened = (
            Image.fromarray(source)
            if isinstance(source, np.ndarray)
            else Image.open(source, formats=['PNG'])
        )
        image = opened.convert('RGB')
    # raised for several hundred megapixels
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)))
    contents, kind = _encode(image, 'PNG', optimize=True), 'png'
    if len(contents) > LARGE:
        contents, kind = _encode(image, 'JPEG', quality=85), 'jpeg'
    uri = f'data:image/{kind};base64,{base64.b64encode(contents).decode()}'
    return Picture(uri, image.width, image.height, caption)


def _encode(image: Image.Image, kind: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()
