"""Benchmark of the data loader: from a JPEG file to two views, on one core."""

import random
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import get_installed_path
from torch.utils.data import default_collate

from mmcrosscl.datasets import collate_views
from mmcrosscl.datasets.demo.photos import open_demo_photo
from mmcrosscl.models import ViewPreprocessor
from mmcrosscl.oracles.views import PillowViews
from mmcrosscl.registry import DATASETS
from mmcrosscl.structures import SeededIndex

from .harness import Variant, compare, table

ROOT = Path(__file__).parents[2]
PHOTOS = ('astronaut.png', 'chelsea.png', 'coffee.png', 'motorcycle_left.png', 'rocket.jpg')
PHOTOMETRIC = ('RandomGaussianBlur', 'RandomColorJitter', 'RandomGrayscale')


def report(folder: Path, rounds: int, images: int) -> str:
    """Compare mmcrosscl's pipeline with those of the reference implementation and of MMPretrain.

    With ``on_device=True`` the pipeline leaves the photometric operations to the preprocessor. The
    last two variants include the preprocessor, which runs on the same core.

    Args:
        folder (Path): Folder to write the images to.
        rounds (int): Number of measured runs per variant.
        images (int): Number of images per run.
    """
    out = []
    for width, height in ((500, 375), (2000, 1500)):
        photos = write_photos(folder / f'{width}x{height}', width, height, images)
        common = dict(folder=str(photos))
        variants = [
            Variant('Pillow + torchvision (reference pipeline)', pillow, common),
            Variant('MMPretrain (MoCo v2 pipeline)', moco, common),
            Variant('mmcrosscl', mmcrosscl, common),
            Variant('mmcrosscl, on_device=True', mmcrosscl, dict(common, on_device=True)),
            Variant('mmcrosscl, with preprocessor', mmcrosscl, dict(common, preprocess=True)),
            Variant(
                'mmcrosscl, on_device=True, with preprocessor',
                mmcrosscl,
                dict(common, on_device=True, preprocess=True),
            ),
        ]
        measured = compare(variants, rounds)
        rows = [
            [m.name, 1000 * m.median / images, images / m.median, m.ratio(measured[0]), m.peak]
            for m in measured
        ]
        out.append(
            table(
                f'Loader: two views of 224 pixels from JPEGs of {width}×{height}, one core',
                ['', 'ms per image', 'images/s', 'speedup', 'peak MB'],
                rows,
            )
        )
    return '\n'.join(out)


def write_photos(folder: Path, width: int, height: int, count: int) -> Path:
    """Write JPEGs of one size, made of scikit-image's photographs, and return their folder."""
    folder.mkdir(parents=True)
    photos = [open_demo_photo(name).resize((width, height)) for name in PHOTOS]
    for index in range(count):
        photos[index % len(photos)].save(folder / f'{index:03d}.jpg', quality=90)
    return folder


def single_threaded(folder: str) -> list[str]:
    """Limit the libraries to one thread, seed them, and return the paths of the images."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    return sorted(str(path) for path in Path(folder).iterdir())


def pillow(folder: str) -> Callable[[], object]:
    paths, make = single_threaded(folder), PillowViews()

    def run():
        views, samples = zip(*(make(path) for path in paths))
        return default_collate(list(views)), samples

    return run


def moco(folder: str) -> Callable[[], object]:
    paths = single_threaded(folder)
    configs = Path(get_installed_path('mmpretrain'), '.mim/configs/_base_/datasets')
    cfg = Config.fromfile(configs / 'imagenet_bs32_mocov2.py')
    init_default_scope('mmpretrain')
    pipeline = Compose(cfg.train_dataloader.dataset.pipeline)
    return lambda: default_collate(
        [pipeline(dict(img_path=path, sample_idx=0))['inputs'] for path in paths]
    )


def mmcrosscl(
    folder: str, on_device: bool = False, preprocess: bool = False
) -> Callable[[], object]:
    paths = single_threaded(folder)
    cfg = Config.fromfile(ROOT / 'configs/crosscl/r50_8xb32.py')
    init_default_scope(cfg.default_scope)
    settings = cfg.train_dataloader.dataset
    settings.update(data_root=folder, data_prefix='')
    for step in settings.pipeline:
        if step.type.rpartition('.')[2] in PHOTOMETRIC:
            step.on_device = on_device
    dataset = DATASETS.build(settings)
    preprocessor = ViewPreprocessor(
        cfg.model.data_preprocessor.mean, cfg.model.data_preprocessor.std
    )

    # SeededSampler yields such indices, which carry the seed of the random augmentation.
    indices = [SeededIndex(index, 0, 0, index) for index in range(len(paths))]

    def run():
        batch = collate_views([dataset[index] for index in indices])
        return preprocessor(batch) if preprocess else batch

    return run
