"""A small folder of photographs."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from mmcrosscl.errors import InputError
from mmcrosscl.progress import track

# photographs in the scikit-image package; scikit-image downloads its other photographs
SOURCES = (
    'astronaut.png',
    'brick.png',
    'camera.png',
    'chelsea.png',
    'coffee.png',
    'coins.png',
    'grass.png',
    'gravel.png',
    'hubble_deep_field.jpg',
    'ihc.png',
    'moon.png',
    'motorcycle_left.png',
    'motorcycle_right.png',
    'retina.jpg',
    'rocket.jpg',
)


def open_demo_photo(name: str) -> Image.Image:
    """Return a photograph of scikit-image in RGB.

    Raises:
        InputError: If scikit-image is not installed.
    """
    try:
        import skimage
    except ImportError:
        raise InputError(
            'the demo photographs need scikit-image, which is not installed; run: pip install '
            'scikit-image'
        ) from None
    return Image.open(Path(skimage.__file__).parent / 'data' / name).convert('RGB')


def write_demo_photos(folder: str | Path, count: int = 480, seed: int = 0) -> None:
    """Write random crops of scikit-image's photographs as JPEG files.

    Each crop covers 15 to 60 % of the area of a photograph, has an aspect ratio of 2:3 to 3:2, and
    is flipped at random. Its longer side is reduced to a random maximum of 160 to 320 pixels.

    The folder is created atomically, and its contents depend only on the arguments.

    Args:
        folder (str | Path): Folder to create. It must not exist.
        count (int): Number of images. Defaults to 480.
        seed (int): Seed of the random generator. Defaults to 0.

    Raises:
        InputError: If the folder exists or scikit-image is not installed.
    """
    with new_folder(folder) as partial:
        photos = [open_demo_photo(name) for name in SOURCES]
        rng = np.random.default_rng(seed)
        for index in track(range(count), 'Cutting photographs', unit='images'):
            photo = photos[index % len(photos)]
            name = Path(SOURCES[index % len(photos)]).stem
            (partial / name).mkdir(exist_ok=True)
            _cut(photo, rng).save(partial / name / f'{index:04d}.jpg', quality=90)


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder, then rename it to ``folder``, or remove it after an error.

    Raises:
        InputError: If ``folder`` exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f'{folder} exists; remove it to create it again')
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial)
        raise


def _cut(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    area = rng.uniform(0.15, 0.6) * photo.width * photo.height
    aspect = np.exp(rng.uniform(np.log(2 / 3), np.log(3 / 2)))
    width = min(round(np.sqrt(area * aspect)), photo.width)
    height = min(round(np.sqrt(area / aspect)), photo.height)
    left = rng.integers(photo.width - width + 1)
    top = rng.integers(photo.height - height + 1)
    cut = photo.crop((left, top, left + width, top + height))
    side = int(rng.integers(160, 321))
    cut.thumbnail((side, side))
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else cut
