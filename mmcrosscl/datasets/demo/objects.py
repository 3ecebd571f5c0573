"""A small labeled detection dataset: objects with photographic textures on photographs."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from mmcrosscl.progress import track

from .photos import new_folder, open_demo_photo

# each class, and the photograph that is the texture of its objects
CLASSES = {
    'brick': 'brick.png',
    'cat': 'chelsea.png',
    'coffee': 'coffee.png',
    'coins': 'coins.png',
    'grass': 'grass.png',
    'gravel': 'gravel.png',
}
BACKGROUNDS = (
    'astronaut.png',
    'camera.png',
    'hubble_deep_field.jpg',
    'ihc.png',
    'moon.png',
    'motorcycle_left.png',
    'retina.jpg',
    'rocket.jpg',
)
SIZE = 160
SIDES = (20, 96)


def write_demo_objects(folder: str | Path, train: int = 200, val: int = 100, seed: int = 0) -> None:
    """Write a training set and a validation set in COCO format.

    Images have 160×160 pixels. Each image shows one to four objects on a crop of a photograph.
    Objects are rotated ellipses, rectangles and polygons with sides of about 20 to 96 pixels. The
    texture of an object is a crop of another photograph. This photograph determines the class.

    The folder contains ``train/``, ``val/`` and ``annotations/{train,val}.json``. It is created
    atomically, and its contents depend only on the arguments.

    Args:
        folder (str | Path): Folder to create. It must not exist.
        train (int): Number of training images. Defaults to 200.
        val (int): Number of validation images. Defaults to 100.
        seed (int): Seed of the random generator. Defaults to 0.

    Raises:
        InputError: If the folder exists or scikit-image is not installed.
    """
    with new_folder(folder) as partial:
        photos = {name: open_demo_photo(name) for name in (*CLASSES.values(), *BACKGROUNDS)}
        rng = np.random.default_rng(seed)
        (partial / 'annotations').mkdir()
        for split, count in (('train', train), ('val', val)):
            (partial / split).mkdir()
            annotations = _write_split(partial / split, count, photos, rng)
            (partial / 'annotations' / f'{split}.json').write_text(json.dumps(annotations))


def _write_split(
    folder: Path, count: int, photos: dict[str, Image.Image], rng: np.random.Generator
) -> dict:
    images: list[dict] = []
    annotations: list[dict] = []
    for image_id in track(range(count), f'Writing {folder.name} images', unit='images'):
        name = f'{image_id:04d}.jpg'
        canvas = _patch(photos[BACKGROUNDS[rng.integers(len(BACKGROUNDS))]], (SIZE, SIZE), rng)
        for category, (left, top, width, height) in _objects(canvas, photos, rng):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=category,
                    bbox=[left, top, width, height],
                    area=width * height,
                    iscrowd=0,
                )
            )
        canvas.save(folder / name, quality=90)
        images.append(dict(id=image_id, file_name=name, width=SIZE, height=SIZE))
    categories = [dict(id=index, name=name) for index, name in enumerate(CLASSES)]
    return dict(images=images, annotations=annotations, categories=categories)


def _objects(
    canvas: Image.Image, photos: dict[str, Image.Image], rng: np.random.Generator
) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    """Paste one to four objects that do not overlap, and yield the class and box of each."""
    taken = np.zeros((SIZE, SIZE), bool)
    for _ in range(rng.integers(1, 5)):
        category = int(rng.integers(len(CLASSES)))
        mask = _silhouette(rng)
        width, height = mask.size
        for _ in range(10):
            left, top = (int(rng.integers(SIZE - side + 1)) for side in mask.size)
            box = (slice(top, top + height), slice(left, left + width))
            if not taken[box].any():
                taken[box] = True
                texture = _patch(photos[list(CLASSES.values())[category]], mask.size, rng)
                canvas.paste(texture, (left, top), mask)
                yield category, (left, top, width, height)
                break


def _silhouette(rng: np.random.Generator) -> Image.Image:
    """Return the mask of a random filled shape that touches all four edges of the mask."""
    side = np.exp(rng.uniform(*np.log(SIDES)))
    aspect = np.exp(rng.uniform(-0.4, 0.4))
    width, height = 4 * side * aspect**0.5, 4 * side / aspect**0.5
    kind = rng.integers(3)
    if kind == 0:  # an ellipse
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        corners = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    elif kind == 1:  # a rectangle
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    else:  # a star-shaped polygon
        count = rng.integers(5, 10)
        angles = (np.arange(count) + rng.uniform(0, 0.6, count)) * 2 * np.pi / count
        corners = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        corners *= rng.uniform(0.6, 1, (count, 1))
    tilt = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    corners = corners * [width / 2, height / 2] @ turn
    corners -= corners.min(axis=0)
    right, bottom = (int(side) + 1 for side in corners.max(axis=0))
    large = Image.new('L', (right, bottom))
    ImageDraw.Draw(large).polygon([tuple(corner) for corner in corners], fill=255)
    mask = large.resize([min(max(side // 4, SIDES[0] // 2), SIZE) for side in large.size])
    return mask.crop(mask.point(lambda value: 255 * (value > 127)).getbbox())


def _patch(photo: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Return a random crop of a photograph with random flip, blur, brightness and contrast."""
    scale = min(rng.uniform(1, 2), photo.width / size[0], photo.height / size[1])
    width, height = round(size[0] * scale), round(size[1] * scale)
    left = int(rng.integers(photo.width - width + 1))
    top = int(rng.integers(photo.height - height + 1))
    patch = photo.resize(size, Image.Resampling.BILINEAR, (left, top, left + width, top + height))
    if rng.random() < 0.5:
        patch = patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.3:
        patch = patch.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    patch = ImageEnhance.Brightness(patch).enhance(rng.uniform(0.6, 1.3))
    return ImageEnhance.Contrast(patch).enhance(rng.uniform(0.7, 1.3))
