"""Compare checkpoints by the similarity of regions, and write the results."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .checkpoints import atomic_write
from .datasets import ImageDataset, ObjectDataset, open_image
from .datasets.transforms import decode_image, resized_crop, windows
from .errors import InputError
from .evaluation import Encoder, compare_checkpoints, comparison_table
from .evaluation.comparison import UNTRAINED, build_dataset
from .visualization import plot_similarity_maps


def compare(
    checkpoints: Sequence[str],
    data: str | Path,
    *,
    image_folder: str | Path | None = None,
    config: str | None = None,
    images: int = 500,
    view_size: int = 224,
    region: Sequence[str] | None = None,
    out: str | Path | None = None,
    trust: bool = False,
) -> str:
    """Measure the similarity of regions for several checkpoints, and write the results.

    Args:
        checkpoints (Sequence[str]): Checkpoint files, ``NAME=FILE`` to name one, or ``untrained``.
        data (str | Path): COCO file or folder of images.
        image_folder (str | Path, optional): Folder of the images of the COCO file. Defaults to None
            (searched beside the file).
        config (str, optional): Config of the models, for checkpoints that do not contain one.
        images (int): Maximum number of images. Defaults to 500.
        view_size (int): Side of the views in pixels. Defaults to 224.
        region (Sequence[str], optional): Image file, and x, y, width and height in pixels of the
            region to draw. Defaults to None (the first region of the data).
        out (str | Path, optional): Folder for ``similarity.json`` and ``maps.png``. Defaults to
            None (nothing is written).
        trust (bool): Unpickle all objects in the checkpoints. Defaults to False.

    Returns:
        str: The table of the results, and the paths of the files.

    Raises:
        InputError: If an argument is invalid; see :func:`compare_checkpoints`.
    """
    if images < 2 or view_size < 1:
        raise InputError(
            f'--count is {images} and --view-size is {view_size}; set at least 2 images and views '
            'of at least 1 pixel'
        )
    if region is not None and out is None:
        raise InputError('--region is drawn in a file; pass --out too')
    named = named_checkpoints(checkpoints)
    if out is not None:
        view, box = _region(data, image_folder, view_size, region)
    comparison, encoders = compare_checkpoints(
        named, data, image_folder, config, images, view_size, trust
    )
    text = comparison_table(comparison)
    if out is None:
        return text
    out = Path(out)
    maps_of = {name: _levels(encoder, view) for name, encoder in encoders.items()}
    common = set.intersection(*(set(maps) for maps in maps_of.values()))
    if common:
        maps_of = {n: {k: x for k, x in maps.items() if k in common} for n, maps in maps_of.items()}
    figure = plot_similarity_maps(view, box, maps_of)
    results, maps = out / 'similarity.json', out / 'maps.png'
    atomic_write(results, lambda path: path.write_text(comparison.to_json()))
    atomic_write(maps, lambda path: Image.fromarray(figure).save(path, 'png'))
    return f'{text}\n\nresults  {results}\nmaps     {maps}'


def named_checkpoints(checkpoints: Sequence[str]) -> dict[str, str | None]:
    """Return the path of each checkpoint by a short name; None for an untrained model.

    Args:
        checkpoints (Sequence[str]): Checkpoint files, ``NAME=FILE`` to name one, or ``untrained``.

    Raises:
        InputError: If two checkpoints have the same name.
    """
    named: dict[str, str | None] = {}
    for text in checkpoints:
        name, separator, file = text.partition('=')
        path: str | None = file
        if text == UNTRAINED:
            path = None
        elif not separator or Path(text).exists():
            path = text
            name = _short_name(text, checkpoints)
        if name in named:
            raise InputError(f'{text}: the name {name} is used twice; write another NAME={path}')
        named[name] = path
    return named


def _short_name(path: str, others: Sequence[str]) -> str:
    """Return the file name, with as many folders as distinguish it from the other paths."""
    parts = Path(path).parts
    for count in range(1, len(parts)):
        if sum(Path(other).parts[-count:] == parts[-count:] for other in others) == 1:
            return '/'.join(parts[-count:])
    return path


def _region(
    data: str | Path,
    image_folder: str | Path | None,
    view_size: int,
    region: Sequence[str] | None,
) -> tuple[np.ndarray, list[float]]:
    """Return an image as a view, and a box in pixels of this view."""
    if region is None:
        return _first_region(build_dataset(data, image_folder, view_size), view_size)
    path = region[0]
    try:
        x, y, width, height = (float(number) for number in region[1:])
    except ValueError:
        raise InputError(
            f'--region {" ".join(region)}: expected four numbers after the image'
        ) from None
    box = [x, y, x + width, y + height]
    try:
        image, (height, width) = decode_image(Path(path).read_bytes())
    # codecs raise errors of many types
    except Exception as error:
        raise InputError(f'{path} cannot be read ({error}); pass another --region') from error
    if not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
        raise InputError(
            f'--region: the box {", ".join(f"{x:g}" for x in box)} (x0, y0, x1, y1) is not within '
            f'{path}, which has {width}×{height} pixels; pass a box within the image'
        )
    return _view(image, box, width, height, view_size)


def _first_region(dataset: ImageDataset, view_size: int) -> tuple[np.ndarray, list[float]]:
    """Return the first image that can be read, and its first box or the window in its middle."""
    reason: Exception | None = None
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        try:
            with open_image(info) as file:
                image, (height, width) = decode_image(file.read())
        # an unreadable image is skipped, as in the comparison
        except Exception as error:
            reason = reason or error
            continue
        if isinstance(dataset, ObjectDataset):
            return _view(image, info['boxes'][0].tolist(), width, height, view_size)
        boxes = windows(view_size)
        view = resized_crop(image, (0, 0, width, height), view_size)
        return view, boxes[len(boxes) // 2].tolist()
    raise InputError(f'no image of --data can be read ({reason}); pass other images')


def _view(
    image: np.ndarray, box: Sequence[float], width: int, height: int, view_size: int
) -> tuple[np.ndarray, list[float]]:
    scale = np.tile([view_size / width, view_size / height], 2)
    view = resized_crop(image, (0, 0, width, height), view_size)
    return view, (np.array(box) * scale).tolist()


def _levels(encoder: Encoder, view: np.ndarray) -> dict[str, torch.Tensor]:
    batch = torch.from_numpy(np.ascontiguousarray(view)).permute(2, 0, 1)[None]
    levels, stages = encoder.encode(batch.to(encoder.data_preprocessor.scale.device))
    return {name: x[0].float().cpu() for name, x in (levels or stages).items()}
