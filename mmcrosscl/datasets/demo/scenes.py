"""A detection dataset of scenes: photographed objects, cut out and pasted on nature photographs."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from mmcrosscl.errors import InputError
from mmcrosscl.progress import track

from .cutouts import (
    CLASSES,
    Sources,
    opaque_box,
    open_cutout,
    open_nature_photo,
    split_sources,
)
from .photos import new_folder

SPLITS = ('unlabeled', 'train', 'test')
SIZE = 192
# longer side of an object in pixels
SIDES = (28, 110)
# two boxes may share this part of the smaller one
OVERLAP = 0.1
# shape of the gamma distribution of the speckle; its standard deviation is 1 / √shape
SPECKLE = 25


def write_scenes(
    folder: str | Path,
    unlabeled: int = 6000,
    train: int = 1000,
    test: int = 300,
    seed: int = 0,
    sensor: bool = False,
) -> None:
    """Write scenes without labels, a training set and a test set in COCO format.

    A scene has 192×192 pixels and shows two to five objects on a crop of a nature photograph. The
    objects are cut-outs of ten classes, with random flip, tilt of up to 25°, size, brightness and
    contrast, and little overlap. A box is the extent of the pixels that are more than half opaque.

    Cut-outs and photographs of the test set occur in no other scene.

    The folder contains ``unlabeled/``, ``train/``, ``test/`` and ``annotations/{train,test}.json``.
    It is created atomically. A scene depends only on the seed, its part and its number, so a larger
    dataset begins with the scenes of a smaller one.

    Args:
        folder (str | Path): Folder to create. It must not exist.
        unlabeled (int): Number of scenes without labels. Defaults to 6,000.
        train (int): Number of labeled training scenes. Defaults to 1,000.
        test (int): Number of test scenes. Defaults to 300.
        seed (int): Seed of the scenes and of the split of the cut-outs. Defaults to 0.
        sensor (bool): Write the same scenes as another sensor would see them: blue-weighted gray
            values, inverted, blurred and with multiplicative speckle. Defaults to False.

    Raises:
        InputError: If the folder exists, a number is below 0, or a Debian package with the images
            is not installed.
    """
    counts = dict(zip(SPLITS, (unlabeled, train, test)))
    if min(seed, *counts.values()) < 0:
        raise InputError('the seed or a number of scenes is below 0; set numbers of at least 0')
    sources = split_sources(seed)
    with new_folder(folder) as partial:
        (partial / 'annotations').mkdir()
        for split in SPLITS:
            (partial / split).mkdir()
        found = _draw(partial, sources, counts, seed, sensor)
        for split in SPLITS[1:]:
            contents = _coco([found[split, index] for index in range(counts[split])])
            (partial / 'annotations' / f'{split}.json').write_text(json.dumps(contents))


def as_sensor(scene: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a photograph as another sensor would see it, with three equal channels.

    Args:
        scene (Image.Image): RGB.
        rng (np.random.Generator): Generator of the speckle.
    """
    # mostly blue, which ImageNet's gray values hardly contain
    gray = 255 - np.asarray(scene, np.float32) @ np.array([0.1, 0.2, 0.7], np.float32)
    blurred = Image.fromarray(gray.astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    # darker, so that speckle does not saturate
    values = 0.7 * np.asarray(blurred, np.float32)
    values = values * rng.gamma(SPECKLE, 1 / SPECKLE, values.shape)
    channel = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    return Image.merge('RGB', [channel] * 3)


def _draw(
    folder: Path, sources: tuple[Sources, Sources], counts: dict[str, int], seed: int, sensor: bool
) -> dict[tuple[str, int], list]:
    """Write scenes in several threads, and return the objects of each split and index."""
    scenes = [(split, index) for split, count in counts.items() for index in range(count)]

    def write(scene: tuple[str, int]) -> list:
        return _write_scene(folder, sources, *scene, seed, sensor)

    # not processes: a fork can deadlock where torch runs threads, and a spawned one imports torch
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), 8)) as pool:
        drawn = pool.map(write, scenes)
        objects = list(track(drawn, 'Writing scenes', total=len(scenes), unit='scenes'))
    return dict(zip(scenes, objects))


def _write_scene(
    folder: Path, sources: tuple[Sources, Sources], split: str, index: int, seed: int, sensor: bool
) -> list[tuple[int, list[int], int]]:
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    scene, objects = _compose(sources[split == 'test'], rng)
    if sensor:
        scene = as_sensor(scene, rng)
    scene.save(folder / split / f'{index:05d}.jpg', quality=90)
    return objects


def _compose(
    sources: Sources, rng: np.random.Generator
) -> tuple[Image.Image, list[tuple[int, list[int], int]]]:
    """Return a scene, and the class, the box and the number of pixels of each object."""
    photo = open_nature_photo(sources.photos[rng.integers(len(sources.photos))])
    side = rng.uniform(SIZE, min(photo.size))
    left, top = (rng.uniform(0, length - side) for length in photo.size)
    part = (left, top, left + side, top + side)
    scene = photo.resize((SIZE, SIZE), Image.Resampling.BILINEAR, part)
    scene = ImageEnhance.Brightness(scene).enhance(rng.uniform(0.6, 1.1))
    count = rng.integers(2, 6)
    objects: list[tuple[int, list[int], int]] = []
    while len(objects) < count:
        category = int(rng.integers(len(CLASSES)))
        paths = sources.cutouts[list(CLASSES)[category]]
        pasted = _transform(open_cutout(paths[rng.integers(len(paths))]), rng)
        if max(pasted.size) < SIDES[0]:
            continue
        # a crowded scene may have no place for a large object, then another one is drawn
        for _ in range(15):
            x, y = (int(rng.integers(SIZE - length + 1)) for length in pasted.size)
            box = [x, y, *pasted.size]
            if all(_overlap(box, other) < OVERLAP for _, other, _ in objects):
                alpha = pasted.getchannel('A')
                scene.paste(pasted.convert('RGB'), (x, y), alpha)
                objects.append((category, box, int((np.asarray(alpha) > 127).sum())))
                break
    return scene, objects


def _overlap(first: Sequence[int], second: Sequence[int]) -> float:
    """Return the intersection of two boxes divided by the area of the smaller one."""
    width, height = (
        min(first[i] + first[i + 2], second[i] + second[i + 2]) - max(first[i], second[i])
        for i in (0, 1)
    )
    smaller = min(first[2] * first[3], second[2] * second[3])
    return max(width, 0) * max(height, 0) / smaller


def _transform(cutout: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a cut-out at its size in the scene, cropped to its opaque pixels."""
    side = np.exp(rng.uniform(*np.log(SIDES)))
    if rng.random() < 0.5:
        cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned = cutout.rotate(rng.uniform(-25, 25), Image.Resampling.BICUBIC, expand=True)
    turned = turned.crop(opaque_box(turned))
    scale = min(side / max(turned.size), 1.5)
    size = tuple(max(4, round(length * scale)) for length in turned.size)
    small = turned.resize(size, Image.Resampling.LANCZOS)
    small = small.crop(opaque_box(small))
    color = ImageEnhance.Brightness(small.convert('RGB')).enhance(rng.uniform(0.7, 1.25))
    color = ImageEnhance.Contrast(color).enhance(rng.uniform(0.8, 1.2))
    color.putalpha(small.getchannel('A'))
    return color


def _coco(scenes: Sequence[list[tuple[int, list[int], int]]]) -> dict:
    images = [
        dict(id=index, file_name=f'{index:05d}.jpg', width=SIZE, height=SIZE)
        for index in range(len(scenes))
    ]
    objects = [(index, *each) for index, found in enumerate(scenes) for each in found]
    annotations = [
        dict(id=number, image_id=index, category_id=category, bbox=box, area=pixels, iscrowd=0)
        for number, (index, category, box, pixels) in enumerate(objects, 1)
    ]
    categories = [dict(id=index, name=name) for index, name in enumerate(CLASSES)]
    return dict(images=images, annotations=annotations, categories=categories)
