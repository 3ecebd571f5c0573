"""Photographed objects, cut out, and nature photographs, from two Debian packages."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from mmcrosscl.errors import InputError

STAMPS = Path('/usr/share/tuxpaint/stamps')
NATURE = Path('/usr/share/backgrounds/mate/nature')
PACKAGES = {STAMPS: 'tuxpaint-stamps-default', NATURE: 'mate-backgrounds'}
# folders of each class, below STAMPS
CLASSES = {
    'bird': ('animals/birds',),
    'fish': ('animals/fish',),
    'flower': ('plants/flowers',),
    'fruit': ('food/fruit',),
    'insect': ('animals/insects',),
    'mammal': ('animals/mammals', 'animals/marsupials'),
    'sign': ('town/roadsigns',),
    'tool': ('household/tools', 'household/arttools'),
    'vegetable': ('food/vegetables',),
    'vehicle': ('vehicles',),
}
# folders of toys and drawings, and mirrored copies of other files
OMITTED = ('toys', 'plastic', 'cartoon', '_mirror', '_flip')
OMITTED_STEMS = (
    # drawings
    'bee',
    'echidna',
    'fly',
    'hedgehog',
    # objects that other cut-outs also show, with other colors or moved parts
    'apple_green',
    'scissors_small_closed',
    'stoplight_02_yellow',
    'stoplight_03_green',
    # wheels, and a car that is mostly transparent
    '7spoke256',
    'sedan_police',
    'wheel_tractor',
)
# photographs with objects of the classes
WITH_OBJECTS = ('FreshFlower', 'Garden', 'LadyBird', 'YellowFlower')
TEST_SHARE = 0.3
# longer side to which cut-outs and photographs are reduced when they are read
CUTOUT, PHOTO = 220, 1000


@dataclass(frozen=True)
class Sources:
    """Image files of a part of the dataset: cut-outs by class, and background photographs."""

    cutouts: dict[str, tuple[Path, ...]]
    photos: tuple[Path, ...]


def missing_packages() -> list[str]:
    """Return the Debian packages with images that are not installed."""
    return [package for path, package in PACKAGES.items() if not path.is_dir()]


def split_sources(seed: int = 0) -> tuple[Sources, Sources]:
    """Split the cut-outs of each class and the photographs into those for training and for test.

    Args:
        seed (int): Seed of the split. Defaults to 0.

    Returns:
        tuple[Sources, Sources]: Sources of the training scenes, with and without labels, and of the
        test scenes.

    Raises:
        InputError: If a Debian package is not installed.
    """
    if missing := missing_packages():
        raise InputError(
            f'the scenes need the Debian package {missing[0]}, which is not installed; run: '
            f'apt-get install {" ".join(PACKAGES.values())}'
        )
    rng = np.random.default_rng(seed)
    training, test = {}, {}
    for name, folders in CLASSES.items():
        paths = [path for folder in folders for path in sorted((STAMPS / folder).rglob('*.png'))]
        paths = [path for path in paths if not any(word in str(path) for word in OMITTED)]
        paths = [path for path in paths if path.stem not in OMITTED_STEMS]
        training[name], test[name] = _split(paths, rng)
    photos = [path for path in sorted(NATURE.glob('*.jpg')) if path.stem not in WITH_OBJECTS]
    training_photos, test_photos = _split(photos, rng)
    return Sources(training, training_photos), Sources(test, test_photos)


@cache
def open_cutout(path: Path) -> Image.Image:
    """Return a cut-out in RGBA, cropped to its opaque pixels, with sides of at most 220 pixels."""
    image = Image.open(path).convert('RGBA')
    image = image.crop(opaque_box(image))
    image.thumbnail((CUTOUT, CUTOUT), Image.Resampling.LANCZOS)
    return image


@cache
def open_nature_photo(path: Path) -> Image.Image:
    """Return a photograph in RGB with sides of at most 1,000 pixels."""
    image = Image.open(path)
    # before a conversion, Pillow reduces a JPEG while it decodes it
    image.thumbnail((PHOTO, PHOTO))
    return image.convert('RGB')


def opaque_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of the pixels that are more than half opaque."""
    return image.getchannel('A').point(lambda alpha: 255 * (alpha > 127)).getbbox()


def _split(
    paths: Sequence[Path], rng: np.random.Generator
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    order = rng.permutation(len(paths))
    count = max(1, round(TEST_SHARE * len(paths)))
    test, training = ([paths[i] for i in sorted(part)] for part in (order[:count], order[count:]))
    return tuple(training), tuple(test)
