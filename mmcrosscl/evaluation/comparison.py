"""Comparison of several checkpoints by the similarity of regions."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mmcrosscl.datasets import (
    ImageDataset,
    ObjectDataset,
    SeededSampler,
    UnlabeledDataset,
    collate_views,
    find_images,
)
from mmcrosscl.errors import InputError
from mmcrosscl.progress import track
from mmcrosscl.registry import TRANSFORMS
from mmcrosscl.structures import REGION_FIELDS

from .encoder import Encoder, load_encoders
from .metric import LevelPair, compare_levels, join_images, pool_views
from .similarity import Estimate, linear_cka

# stands for the model of the first checkpoint with random weights
UNTRAINED = 'untrained'
# number of regions for centered kernel alignment, whose memory grows with its square
CKA_REGIONS = 2000
BATCH_SIZE = 16


@dataclass(frozen=True)
class StagePair:
    """Linear centered kernel alignment of the regions between two backbone stages."""

    stages: tuple[str, str]
    cka: Estimate


@dataclass(frozen=True)
class Measured:
    """Similarities of one checkpoint.

    Attributes:
        name: Name in tables.
        path: The checkpoint; None for an untrained model.
        levels: Pairs of pyramid levels; empty if the checkpoint has no weights for the neck.
        stages: Pairs of backbone stages.
    """

    name: str
    path: str | None
    levels: tuple[LevelPair, ...]
    stages: tuple[StagePair, ...]

    @property
    def collapsed(self) -> list[str]:
        """Names of the levels on which training made the vectors of all regions alike."""
        if self.path is None:
            return []
        return [pair.query for pair in self.levels if pair.collapsed]


@dataclass(frozen=True)
class Comparison:
    """Similarities of several checkpoints on the same regions.

    Attributes:
        data: The COCO file or the folder.
        regions: 'boxes' or 'windows'.
        images: Number of images with a region.
        objects: Number of regions.
        view_size: Side of the views in pixels.
        checkpoints: Results of each checkpoint.
    """

    data: str
    regions: str
    images: int
    objects: int
    view_size: int
    checkpoints: tuple[Measured, ...]

    def to_json(self) -> str:
        """Return the contents of ``similarity.json``. NaN becomes null."""
        contents = {**asdict(self), 'checkpoints': []}
        for measured in self.checkpoints:
            levels = [dict(kind='levels', **asdict(pair)) for pair in measured.levels]
            stages = [dict(kind='cka', **asdict(pair)) for pair in measured.stages]
            contents['checkpoints'].append(
                dict(
                    name=measured.name,
                    path=measured.path,
                    rows=levels + stages,
                    collapsed=measured.collapsed,
                )
            )
        return json.dumps(_without_nan(contents), indent=1)


def compare_checkpoints(
    checkpoints: Mapping[str, str | None],
    data: str | Path,
    image_folder: str | Path | None = None,
    config: str | None = None,
    images: int = 500,
    view_size: int = 224,
    trust: bool = False,
) -> tuple[Comparison, dict[str, Encoder]]:
    """Measure the similarity of regions for several checkpoints on the same views.

    The regions are the boxes of a COCO file, or sliding windows on the images of a folder. Each
    image is seen in two views, with the photometric operations of pre-training and crops of 60 to
    100 % of its area, so that most objects lie within both views.

    Args:
        checkpoints (Mapping[str, str | None]): See :func:`load_encoders`.
        data (str | Path): COCO file or folder of images.
        image_folder (str | Path, optional): Folder of the images of the COCO file. Defaults to None
            (searched near the file; see :func:`find_images`).
        config (str, optional): Config of the models, for checkpoints that do not contain one.
        images (int): Maximum number of images, chosen evenly. Defaults to 500.
        view_size (int): Side of the views in pixels. Defaults to 224.
        trust (bool): Unpickle all objects in the checkpoints. Defaults to False.

    Returns:
        tuple[Comparison, dict[str, Encoder]]: The results, and the model of each checkpoint.

    Raises:
        InputError: If a checkpoint or the data cannot be read, or fewer than two images have a
            region in both views.
    """
    encoders = load_encoders(checkpoints, config, trust)
    loader = _loader(data, image_folder, images, view_size)
    found = _encode(loader, encoders, view_size)
    measured = tuple(_measure(name, path, *found[name]) for (name, path) in checkpoints.items())
    _, image, _ = join_images(next(iter(found.values()))[0])
    comparison = Comparison(
        data=str(data),
        regions='boxes' if isinstance(loader.dataset, ObjectDataset) else 'windows',
        images=len(image.unique()),
        objects=len(image),
        view_size=view_size,
        checkpoints=measured,
    )
    return comparison, encoders


def build_dataset(
    data: str | Path, image_folder: str | Path | None, view_size: int, images: int | None = None
) -> ImageDataset:
    """Return the images of a COCO file with their boxes, or of a folder with sliding windows.

    Args:
        data (str | Path): COCO file or folder of images.
        image_folder (str | Path, optional): Folder of the images of the COCO file.
        view_size (int): Side of the views in pixels.
        images (int, optional): Maximum number of images. Defaults to None (all images).

    Raises:
        InputError: If the data do not exist, or are neither a folder nor a COCO file.
    """
    boxes = not Path(data).is_dir()
    if not Path(data).exists():
        raise InputError(f'{data} does not exist; pass a COCO file or a folder of images')
    steps: list[dict] = [
        dict(type='LoadImage'),
        dict(type='TwoCrops', scale=view_size, crop_ratio_range=(0.6, 1.0)),
        dict(type='RandomGaussianBlur'),
        dict(type='RandomColorJitter'),
        dict(type='RandomGrayscale'),
        dict(type='BoxPairs' if boxes else 'RegionPairs'),
        dict(type='PackViews'),
    ]
    pipeline = [TRANSFORMS.build(dict(step, type=f'mmcrosscl.{step["type"]}')) for step in steps]
    settings: dict[str, Any] = dict(pipeline=pipeline, max_images=images)
    if not boxes:
        return UnlabeledDataset(data_root=str(data), **settings)
    folder = find_images(data, image_folder).resolve()
    return ObjectDataset(str(Path(data).resolve()), data_prefix=str(folder), **settings)


def _loader(
    data: str | Path, image_folder: str | Path | None, images: int, view_size: int
) -> DataLoader:
    dataset = build_dataset(data, image_folder, view_size, images)
    return DataLoader(
        dataset,
        BATCH_SIZE,
        sampler=SeededSampler(dataset, shuffle=False, seed=0),
        num_workers=1,
        collate_fn=collate_views,
    )


def _encode(
    loader: DataLoader, encoders: Mapping[str, Encoder], view_size: int
) -> dict[str, tuple[list[dict], list[dict]]]:
    """Return the vectors of all regions on levels and on stages, by model and image."""
    found: dict[str, tuple[list[dict], list[dict]]] = {name: ([], []) for name in encoders}
    for batch in track(loader, 'Encoding', unit='batches'):
        samples = batch['data_samples']
        for name, encoder in encoders.items():
            device = encoder.data_preprocessor.scale.device
            pairs = [encoder.encode(views.to(device)) for views in batch['inputs']]
            for maps, results in zip(zip(*pairs), found[name]):
                for index, sample in enumerate(samples):
                    regions = {
                        view: torch.from_numpy(sample.regions(view)[sample.paired])
                        for view in REGION_FIELDS
                    }
                    features = {
                        view: {level: x[index] for level, x in of_view.items()}
                        for view, of_view in zip(REGION_FIELDS, maps)
                    }
                    vectors = pool_views(features, regions, view_size)
                    results.append(dict(vectors=vectors, boxes=regions['query']))
    return found


def _measure(
    name: str, path: str | None, levels: Sequence[dict], stages: Sequence[dict]
) -> Measured:
    pairs = compare_levels(*join_images(levels))
    vectors, image, _ = join_images(stages)
    return Measured(name, path, tuple(pairs), tuple(_align(vectors['query'], image)))


def _align(vectors: Mapping[str, Tensor], image: Tensor) -> list[StagePair]:
    # whole images, because the bootstrap resamples images
    last = image[min(CKA_REGIONS, len(image) - 1)]
    chosen = image < last if len(image) > CKA_REGIONS and last > image[0] else image <= last
    return [
        StagePair((a, b), linear_cka(vectors[a][chosen], vectors[b][chosen], image[chosen]))
        for a, b in itertools.combinations(vectors, 2)
    ]


def _without_nan(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
