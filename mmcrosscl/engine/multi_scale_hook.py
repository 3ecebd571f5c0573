"""Changes the size of the views during pre-training."""

from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmcrosscl.datasets.transforms import TwoCrops
from mmcrosscl.errors import InputError
from mmcrosscl.registry import HOOKS


@HOOKS.register_module()
class MultiScaleHook(Hook):
    """Draw the side of the views anew on every 1 % of the epochs.

    The draw is a function of the run's seed and of the epoch, so that it is one for all ranks and
    the same after a resume. With fewer than 100 epochs there is a draw per epoch.

    Args:
        scales (Sequence[int]): Sides to draw from, in pixels. Defaults to (224, 384, 480).

    Raises:
        InputError: If there is no scale; before training, if the pipeline has no
            :class:`TwoCrops` or the training loop does not count epochs.
    """

    def __init__(self, scales: Sequence[int] = (224, 384, 480)) -> None:
        if not scales or min(scales) < 1:
            raise InputError(f'scales are {scales}; give at least one size above 0')
        self.scales = tuple(scales)

    def before_train(self, runner: Runner) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise InputError(
                'MultiScaleHook changes the view size between epochs; use '
                'train_cfg=dict(by_epoch=True, …) or take the hook out of custom_hooks'
            )
        self._crops = list(two_crops(runner.train_dataloader.dataset))
        if not self._crops:
            raise InputError(
                'MultiScaleHook finds no mmcrosscl.TwoCrops in the pipeline of the training '
                'dataset; add it or take the hook out of custom_hooks'
            )

        # with diff_rank_seed every rank has a seed of its own
        seed = [runner.seed]
        broadcast_object_list(seed)
        self._seed = seed[0]

    def before_train_epoch(self, runner: Runner) -> None:
        scale = self.scale_at(runner.epoch, runner.max_epochs, self._seed)
        for transform in self._crops:
            transform.set_scale(scale)
        runner.logger.info(f'Views are {scale} pixels wide in epoch {runner.epoch + 1}.')

    def scale_at(self, epoch: int, max_epochs: int, seed: int) -> int:
        """Side of the views in an epoch, counted from 0."""
        period = epoch // max(1, round(max_epochs / 100))
        return int(np.random.default_rng((seed, period)).choice(self.scales))


def two_crops(dataset) -> Iterator[TwoCrops]:
    """The :class:`TwoCrops` in the pipelines of a dataset and of those that it wraps."""
    for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
        if isinstance(transform, TwoCrops):
            yield transform
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())]:
        if inner is not None:
            yield from two_crops(inner)
