"""Linear probe: how well a linear classifier tells the classes of labeled boxes from features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmcrosscl.datasets import (
    ObjectDataset,
    category_names,
    check_leaks,
    find_images,
    label_subsets,
    read_coco,
    select_images,
    write_coco,
)
from mmcrosscl.datasets.transforms import decode_image, resized_crop
from mmcrosscl.errors import InputError
from mmcrosscl.progress import track

from .encoder import Encoder, load_encoders
from .metric import pool_views
from .similarity import Estimate, bootstrap
from .table import cell

BATCH_SIZE = 32
# of the regularization, relative to the number of boxes
PENALTIES = tuple(10.0**power for power in range(-4, 3))


@dataclass(frozen=True)
class Probe:
    """Accuracies of the linear classifiers of several checkpoints.

    Attributes:
        objects: Number of boxes in the test images.
        images: Number of test images.
        accuracies: Share of the boxes whose class is correct, from 0 to 1, by feature map, name of
            the checkpoint and number of labeled images, with its 95 % interval.
    """

    objects: int
    images: int
    accuracies: dict[str, dict[str, dict[int | float, Estimate]]]

    def table(self) -> str:
        """Return a table with a block of rows per feature map that two checkpoints have."""
        least = min(2, max(map(len, self.accuracies.values())))
        blocks = {n: rows for n, rows in self.accuracies.items() if len(rows) >= least}
        indent = 2 + max(len(name) for rows in blocks.values() for name in rows)
        lines = [
            f'{self.objects:,} boxes in {self.images:,} test images',
            'Each cell is the share of boxes whose class is correct, with its 95 % interval.',
        ]
        for title, rows in blocks.items():
            sizes = [f'{100 * x:g} %' if isinstance(x, float) else str(x) for x in _first(rows)]
            header = ''.join(f'{f"{size} images":>18}' for size in sizes)
            lines += ['', title.upper(), ' ' * (2 + indent) + header]
            lines += [
                f'  {name:{indent}}' + ''.join(f'{cell(x, True):>18}' for x in row.values())
                for name, row in rows.items()
            ]
        return '\n'.join(lines)


def probe_checkpoints(
    checkpoints: Mapping[str, str | None],
    train: str | Path,
    test: str | Path,
    labels: Sequence[int | float],
    *,
    folds: int = 3,
    train_images: str | Path | None = None,
    test_images: str | Path | None = None,
    config: str | None = None,
    view_size: int = 224,
    trust: bool = False,
) -> Probe:
    """Train linear classifiers of labeled boxes on the features of checkpoints, and test them.

    The features of a box are its vector on a stage of the backbone or a level of the neck, pooled
    as the loss does, in the whole image at ``view_size``. Nothing but the linear classifier is
    trained; see :func:`fit`. The accuracy is the mean over several subsets of labeled images,
    which are the same for all checkpoints; see :func:`label_subsets`.

    Args:
        checkpoints (Mapping[str, str | None]): See :func:`load_encoders`.
        train (str | Path): COCO file of the labeled training images.
        test (str | Path): COCO file of the test images.
        labels (Sequence[int | float]): Numbers of labeled images, or shares of the training images.
        folds (int): Number of subsets of each size. Defaults to 3.
        train_images (str | Path, optional): Folder of the training images. Defaults to None
            (searched beside the COCO file).
        test_images (str | Path, optional): Folder of the test images.
        config (str, optional): Config of the models, for checkpoints that do not contain one.
        view_size (int): Side in pixels to which images are resized. Defaults to 224.
        trust (bool): Unpickle all objects in the checkpoints. Defaults to False.

    Raises:
        InputError: If a checkpoint or a COCO file cannot be used, a class of the test images is
            unknown, a test image is among the training images, or a subset cannot be drawn.
    """
    if folds < 1 or view_size < 1:
        raise InputError(
            f'--folds is {folds} and --view-size is {view_size}; set both to at least 1'
        )
    coco = read_coco(train)
    subsets = [label_subsets(coco, labels, fold) for fold in range(folds)]
    folders = [
        str(find_images(*each).resolve())
        for each in (
            (train, train_images, '--train-images'),
            (test, test_images, '--test-images'),
        )
    ]
    encoders = load_encoders(checkpoints, config, trust)
    with TemporaryDirectory() as temporary:
        used = Path(temporary, 'train.json')
        ids = {image['id'] for subset in _flat(subsets) for image in subset['images']}
        write_coco(select_images(coco, ids), used)
        training, testing = (
            ObjectDataset(str(Path(path).resolve()), data_prefix=folder)
            for path, folder in zip((used, test), folders)
        )
        names = [_file_names(subset, folders[0]) for subset in _flat(subsets)]
    check_leaks(*([d.get_data_info(i) for i in range(len(d))] for d in (testing, training)))
    # the ids of two files may differ
    names_of = [category_names(contents) for contents in (coco, read_coco(test))]
    if not all(names_of):
        names_of = [{}, {}]
    training_classes, testing_classes = (
        {label: names.get(label, label) for label in _labels(dataset)}
        for names, dataset in zip(names_of, (training, testing))
    )
    known = set(training_classes.values())
    if unknown := set(testing_classes.values()) - known:
        raise InputError(
            f'{test} has boxes of the category {min(unknown, key=str)}, of which {train} has none '
            'in the subsets; use the same categories, or more labeled images'
        )
    place = {name: index for index, name in enumerate(sorted(known, key=str))}
    numbers = [
        {label: place[name] for label, name in classes.items()}
        for classes in (training_classes, testing_classes)
    ]
    accuracies: dict[str, dict[str, dict[int | float, Estimate]]] = {}
    for name, encoder in encoders.items():
        vectors, classes, paths = _features(encoder, training, numbers[0], view_size, name)
        unseen, truth, test_paths = _features(encoder, testing, numbers[1], view_size, name)
        images = torch.from_numpy(np.unique(test_paths, return_inverse=True)[1])
        chosen = [torch.from_numpy(np.isin(paths, list(files))) for files in names]
        for level, x in vectors.items():
            hits = torch.stack(
                [fit(x[c], classes[c])(unseen[level]) == truth for c in chosen]
            ).double()
            # subsets are in the order of the folds, each with all sizes
            mean = hits.unflatten(0, (folds, -1)).mean(0)
            accuracies.setdefault(level, {})[name] = dict(
                zip(subsets[0], bootstrap(mean.T, images))
            )
    return Probe(len(truth), len(np.unique(test_paths)), accuracies)


def fit(vectors: Tensor, classes: Tensor) -> Callable[[Tensor], Tensor]:
    """Fit a linear classifier, and return a function that classifies vectors.

    Ridge regression on the one-hot classes, with features of zero mean and unit variance. The
    penalty is the one with the smallest squared error of leave-one-out, which has a closed form;
    section 4 of Rifkin and Lippert, 2007, "Notes on Regularized Least Squares". No test data is
    used.

    Args:
        vectors (Tensor): (R, C).
        classes (Tensor): (R,) integers from 0.

    Returns:
        Callable[[Tensor], Tensor]: Maps (T, C) vectors to (T,) classes.
    """
    x = vectors.double()
    mean, std = x.mean(0), x.std(0).clamp(min=1e-12)
    x = (x - mean) / std
    targets = F.one_hot(classes).double()
    center = targets.mean(0)
    targets = targets - center
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    rotated = u.T @ targets
    least, best = torch.inf, PENALTIES[0]
    for penalty in PENALTIES:
        shrunk = s**2 / (s**2 + penalty * len(x))
        # the intercept, which has no penalty, adds 1 / R
        hat = (u**2 * shrunk).sum(1, keepdim=True) + 1 / len(x)
        residuals = (targets - u @ (shrunk[:, None] * rotated)) / (1 - hat).clamp(1e-9)
        error = float(residuals.square().mean())
        if error < least:
            least, best = error, penalty
    weights = vt.T @ ((s / (s**2 + best * len(x)))[:, None] * rotated)
    return lambda unseen: ((unseen.double() - mean) / std @ weights + center).argmax(1)


def _features(
    encoder: Encoder, dataset: ObjectDataset, numbers: Mapping, view_size: int, name: str
) -> tuple[dict[str, Tensor], Tensor, np.ndarray]:
    """Return the vectors of all boxes by feature map, their classes, and their image files."""
    found: dict[str, list[Tensor]] = {}
    classes, paths = [], []
    device = encoder.data_preprocessor.scale.device
    starts = range(0, len(dataset), BATCH_SIZE)
    for start in track(starts, f'Encoding for {name}', unit='batches'):
        infos = [
            dataset.get_data_info(index)
            for index in range(start, min(start + BATCH_SIZE, len(dataset)))
        ]
        views, boxes = zip(*(_view(info, view_size) for info in infos))
        levels, stages = encoder.encode(torch.stack(views).to(device))
        for index, info in enumerate(infos):
            maps = {level: x[index] for level, x in {**stages, **levels}.items()}
            pooled = pool_views(dict(query=maps), dict(query=boxes[index]), view_size)['query']
            for level, x in pooled.items():
                found.setdefault(level, []).append(x)
            classes += [numbers[label] for label in info['labels']]
            paths += [info['img_path']] * len(info['labels'])
    vectors = {level: torch.cat(x) for level, x in sorted(found.items())}
    return vectors, torch.tensor(classes), np.array(paths)


def _view(info: Mapping, view_size: int) -> tuple[Tensor, Tensor]:
    """Return an image as a (3, S, S) view, and its boxes in pixels of the view."""
    path = info['img_path']
    try:
        image, (height, width) = decode_image(Path(path).read_bytes())
    # codecs raise errors of many types
    except Exception as error:
        raise InputError(f'{path} cannot be read ({error}); remove or replace it') from error
    view = resized_crop(image, (0, 0, image.shape[1], image.shape[0]), view_size)
    scale = np.tile([view_size / width, view_size / height], 2)
    boxes = torch.from_numpy((info['boxes'] * scale).astype(np.float32))
    return torch.from_numpy(view).permute(2, 0, 1), boxes


def _flat(subsets: Sequence[Mapping]) -> list[Mapping]:
    return [subset for of_fold in subsets for subset in of_fold.values()]


def _file_names(coco: Mapping, folder: str) -> set[str]:
    return {str(Path(folder, image['file_name'])) for image in coco['images']}


def _labels(dataset: ObjectDataset) -> set:
    return {
        label for index in range(len(dataset)) for label in dataset.get_data_info(index)['labels']
    }


def _first(rows: Mapping[str, Mapping]) -> Mapping:
    return next(iter(rows.values()))
