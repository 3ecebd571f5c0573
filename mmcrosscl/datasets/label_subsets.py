"""Nested, stratified subsets of the labeled images of a COCO file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmcrosscl.errors import InputError

from .objects import category_names, read_coco, select_images, write_coco

# images that are compared for each place in the order
CANDIDATES = 16


def label_subsets(
    coco: Mapping, sizes: Sequence[int | float], fold: int = 0
) -> dict[int | float, dict]:
    """Draw nested subsets of the images of a COCO file, stratified by class.

    The images are put in an order, and a subset is the beginning of the order, so a smaller subset
    is part of each larger one. The order starts with one image of each class, rarest class first.
    Each further image shows the class that is furthest below its share of the images. Of 16 random
    images of this class, it is the one that brings all classes closest to their shares. Images
    without boxes count as a class. This follows the iterative stratification of Sechidis et al.,
    2011, "On the stratification of multi-label data", for subsets that grow by one image.

    Args:
        coco (Mapping): Contents of a COCO file.
        sizes (Sequence[int | float]): Number of images of each subset, or, as a float below 1, its
            share of the images.
        fold (int): Seed of the order. Defaults to 0.

    Returns:
        dict[int | float, dict]: Contents of a COCO file by size, with images and annotations in
        their original order.

    Raises:
        InputError: If a size is out of range or occurs twice, two images have the same id, the file
            has no boxes, or a class has no box in a subset.
    """
    images = coco['images']
    counts = _counts(sizes, len(images))
    classes = _classes_of_images(coco)
    names = category_names(coco)
    order = _order(classes, max(counts), np.random.default_rng(fold))
    subsets = {}
    for size, count in zip(sizes, counts):
        chosen = np.sort(order[:count])
        missing = set().union(*classes) - set().union(*(classes[index] for index in chosen))
        if missing := missing - {None}:
            name = names.get(min(missing, key=str), min(missing, key=str))
            raise InputError(
                f'the subset of {count} images has no box of the class {name}; use a subset of at '
                f'least {len(set().union(*classes) - {None})} images, one per class'
            )
        ids = {images[index]['id'] for index in chosen}
        subsets[size] = select_images(coco, ids)
    return subsets


def write_label_subsets(
    ann_file: str | Path, sizes: Sequence[int | float], folds: int, folder: str | Path
) -> list[Path]:
    """Write subsets of a COCO file to ``<name>.<fold>@<size>.json``, with folds counted from 1.

    The names are those of MMDetection's ``split_coco.py``, in which a size is in percent. A number
    of images ends in ``images`` instead, as in ``train.1@200images.json``.

    Args:
        ann_file (str | Path): COCO file.
        sizes (Sequence[int | float]): See :func:`label_subsets`.
        folds (int): Number of subsets of each size.
        folder (str | Path): Folder to write to.

    Returns:
        list[Path]: The files.

    Raises:
        InputError: If the file is not in COCO format, a subset cannot be written, or for the
            reasons of :func:`label_subsets`.
    """
    if folds < 1:
        raise InputError(f'--folds is {folds}; set a number of at least 1')
    ann_file, folder = Path(ann_file), Path(folder)
    coco = read_coco(ann_file)
    contents = {}
    for fold in range(folds):
        for size, subset in label_subsets(coco, sizes, fold).items():
            text = f'{100 * size:g}' if isinstance(size, float) else f'{size}images'
            contents[folder / f'{ann_file.stem}.{fold + 1}@{text}.json'] = subset
    for path, subset in contents.items():
        write_coco(subset, path)
    return list(contents)


def _counts(sizes: Sequence[int | float], images: int) -> list[int]:
    counts: list[int] = []
    for size in sizes:
        share = isinstance(size, float)
        if not (0 < size < 1 if share else 1 <= size <= images):
            raise InputError(
                f'subset size {size} is out of range; set a number from 1 to {images}, the number '
                'of images, or a share between 0 % and 100 %'
            )
        counts.append(max(1, round(size * images)) if isinstance(size, float) else size)
    if twice := {count for count in counts if counts.count(count) > 1}:
        raise InputError(
            f'two of the subset sizes {", ".join(map(str, sizes))} are {min(twice)} images; use '
            'each size only once'
        )
    return counts


def _classes_of_images(coco: Mapping) -> list[set]:
    """Return the classes in each image; {None} for an image without boxes."""
    row: dict[object, int] = {}
    for index, image in enumerate(coco['images']):
        if image['id'] in row:
            raise InputError(
                f'two images of the COCO file have the id {image["id"]}; renumber them'
            )
        row[image['id']] = index
    classes: list[set] = [set() for _ in row]
    for annotation in coco['annotations']:
        place = row.get(annotation['image_id'])
        if place is not None and not annotation.get('iscrowd'):
            classes[place].add(annotation.get('category_id'))
    if not any(classes):
        raise InputError('the COCO file has no boxes; pass a file with labeled objects')
    return [found or {None} for found in classes]


def _order(classes: Sequence[set], length: int, rng: np.random.Generator) -> np.ndarray:
    """Return the first images of an order whose beginnings are stratified."""
    kinds = sorted(set().union(*classes), key=str)
    column = {kind: index for index, kind in enumerate(kinds)}
    rows = [[column[kind] for kind in sorted(found, key=str)] for found in classes]
    waiting: list[list[int]] = [[] for _ in kinds]
    for index in rng.permutation(len(classes)):
        for kind in rows[index]:
            waiting[kind].append(int(index))
    totals = np.array([len(each) for each in waiting])
    shares = totals / len(classes)
    counts = np.zeros(len(kinds))
    used = np.zeros(len(classes), bool)
    order: list[int] = []

    def take(kind: int, deficit: list[float]) -> bool:
        candidates: list[int] = []
        while waiting[kind] and len(candidates) < CANDIDATES:
            index = waiting[kind].pop()
            if not used[index]:
                candidates.append(index)
        if not candidates:
            return False
        # an image of class k changes the squared deficit d² to (d - 1)², which is 2d - 1 less
        best = max(candidates, key=lambda index: sum(2 * deficit[k] - 1 for k in rows[index]))
        waiting[kind] += [index for index in reversed(candidates) if index != best]
        used[best] = True
        counts[rows[best]] += 1
        order.append(best)
        return True

    # an image without boxes needs no representative
    for kind in sorted(range(len(kinds)), key=lambda kind: totals[kind]):
        if len(order) < length and counts[kind] == 0 and kinds[kind] is not None:
            take(kind, (shares * (len(order) + 1) - counts).tolist())
    while len(order) < length:
        deficit = shares * (len(order) + 1) - counts
        for kind in (-deficit).argsort(kind='stable'):
            if take(kind, deficit.tolist()):
                break
    return np.array(order)
