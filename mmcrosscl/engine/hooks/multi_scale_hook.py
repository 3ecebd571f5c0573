"""Hook that changes the size of the views during pre-training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmcrosscl.datasets import SeededIndex, SeededInfiniteSampler, SeededSampler
from mmcrosscl.datasets.transforms import TwoCrops
from mmcrosscl.errors import InputError
from mmcrosscl.registry import HOOKS


@HOOKS.register_module()
class MultiScaleHook(Hook):
    """Chooses a random size of the views for every 1 % of the epochs or iterations.

    An epoch-based loop counts epochs, and an iteration-based loop counts iterations. With fewer
    than 100 epochs, each epoch has its own size.

    The size is a function of the sampler's seed and of the epoch or iteration. All ranks therefore
    use the same size, a resumed run uses the same sizes as an uninterrupted run, and worker
    processes know the size in advance.

    Args:
        scales (Sequence[int]): Side lengths of the views to choose from, in pixels. Defaults to
            (224, 384, 480).

    Raises:
        InputError: If ``scales`` is empty or contains a value below 1. Before training, if the
            pipeline has no :class:`TwoCrops`, or if the sampler does not yield
            :class:`SeededIndex`.
    """

    def __init__(self, scales: Sequence[int] = (224, 384, 480)) -> None:
        if not scales or min(scales) < 1:
            raise InputError(
                f'expected one or more scales above 0, but got {scales}; set scales to sizes in '
                'pixels, such as (224, 384, 480)'
            )
        self.scales = tuple(scales)
        self._size: int | None = None

    def before_train(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        crops = list(two_crops(loader.dataset))
        if not crops:
            raise InputError(
                'MultiScaleHook needs mmcrosscl.TwoCrops in the pipeline of the training dataset; '
                'add mmcrosscl.TwoCrops, or remove MultiScaleHook from custom_hooks'
            )
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        wanted = SeededSampler if by_epoch else SeededInfiniteSampler
        if not isinstance(loader.sampler, wanted):
            raise InputError(
                f'MultiScaleHook needs the sampler mmcrosscl.{wanted.__name__}; set '
                'train_dataloader.sampler.type to this sampler, or remove MultiScaleHook from '
                'custom_hooks'
            )
        if by_epoch:
            schedule = ScaleSchedule(self.scales, runner.max_epochs)
        else:
            taken, position = loader.sampler.origin
            schedule = ScaleSchedule(
                self.scales,
                runner.max_iters,
                images=loader.batch_size * runner.world_size,
                first=(taken // loader.batch_size, position),
            )
        for transform in crops:
            transform.scale_at = schedule

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        if data_batch is None:
            return
        size = data_batch['inputs'][0].shape[-1]
        if size != self._size:
            self._size = size
            runner.logger.info(f'Views are {size} pixels wide from iteration {runner.iter + 1}.')


@dataclass(frozen=True)
class ScaleSchedule:
    """Size of the views as a function of an index.

    Attributes:
        scales: Side lengths to choose from, in pixels.
        length: Number of epochs or iterations of the run.
        images: Number of images per iteration, summed over all ranks. None if epochs are counted.
        first: An iteration, and the position in the order of images at its start.
    """

    scales: tuple[int, ...]
    length: int
    images: int | None = None
    first: tuple[int, int] = (0, 0)

    def __call__(self, index: SeededIndex) -> int:
        step = index.epoch
        if self.images is not None:
            step = self.first[0] + (index.position - self.first[1]) // self.images
        period = step // max(1, round(self.length / 100))
        return int(np.random.default_rng((index.seed, period)).choice(self.scales))


def two_crops(dataset) -> Iterator[TwoCrops]:
    """Yield each :class:`TwoCrops` in the pipelines of a dataset and of the datasets it wraps."""
    for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
        if isinstance(transform, TwoCrops):
            yield transform
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())]:
        if inner is not None:
            yield from two_crops(inner)
