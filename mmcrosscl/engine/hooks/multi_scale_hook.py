"""Changes the size of the views during pre-training."""

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
    """Choose the side of the views at random every 1 % of the epochs, or of the iterations.

    The choice is a function of the sampler's seed and the position of an image in the order. All
    ranks therefore agree, a resumed run makes the same choices, and worker processes know them in
    advance. With fewer than 100 epochs, each epoch has its own choice.

    Args:
        scales (Sequence[int]): Sides to choose from, in pixels. Defaults to (224, 384, 480).

    Raises:
        InputError: If there is no scale; before training, if the pipeline has no
            :class:`TwoCrops` or the sampler gives no :class:`SeededIndex`.
    """

    def __init__(self, scales: Sequence[int] = (224, 384, 480)) -> None:
        if not scales or min(scales) < 1:
            raise InputError(f'scales are {scales}; give at least one size above 0')
        self.scales = tuple(scales)
        self._size: int | None = None

    def before_train(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        crops = list(two_crops(loader.dataset))
        if not crops:
            raise InputError(
                'MultiScaleHook finds no mmcrosscl.TwoCrops in the pipeline of the training '
                'dataset; add it or take the hook out of custom_hooks'
            )
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        wanted = SeededSampler if by_epoch else SeededInfiniteSampler
        if not isinstance(loader.sampler, wanted):
            raise InputError(
                f'MultiScaleHook needs the indices that mmcrosscl.{wanted.__name__} gives; set '
                'train_dataloader.sampler to it or take the hook out of custom_hooks'
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
        size = data_batch['inputs'][0].shape[-1]
        if size != self._size:
            self._size = size
            runner.logger.info(f'Views are {size} pixels wide from iteration {runner.iter + 1}.')


@dataclass(frozen=True)
class ScaleSchedule:
    """The side of the views as a function of an index.

    Attributes:
        scales: Sides to choose from, in pixels.
        length: Epochs or iterations of the run.
        images: Images in an iteration, over all ranks; None if epochs are counted.
        first: An iteration, and the position in the order at which it began.
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
    """Yield the :class:`TwoCrops` in the pipelines of a dataset and of those that it wraps."""
    for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
        if isinstance(transform, TwoCrops):
            yield transform
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())]:
        if inner is not None:
            yield from two_crops(inner)
