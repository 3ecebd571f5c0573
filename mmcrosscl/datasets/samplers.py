"""Samplers that can start at any position and attach the seed of the transforms to each index."""

from collections.abc import Iterator, Sized

import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler

from mmcrosscl.registry import DATA_SAMPLERS
from mmcrosscl.structures import SeededIndex


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """A ``DefaultSampler`` of MMEngine that yields :class:`SeededIndex` and can start mid-epoch.

    Attributes:
        start (int): Number of images to skip at the start of the next epoch, summed over all ranks.
            Later epochs are complete.

    Args:
        dataset (Sized): The dataset.
        **kwargs: Arguments of ``DefaultSampler``.
    """

    def __init__(self, dataset: Sized, **kwargs) -> None:
        super().__init__(dataset, **kwargs)
        self.start = 0

    def __iter__(self) -> Iterator[SeededIndex]:
        start, self.start = self.start, 0
        for row, index in enumerate(super().__iter__()):
            position = row * self.world_size + self.rank
            if position >= start:
                yield SeededIndex(index, self.seed, self.epoch, position)


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(InfiniteSampler):
    """An infinite sampler that yields :class:`SeededIndex` and can start at any position.

    The sampler passes over the dataset again and again. Pass e has the same order as epoch e of
    :class:`SeededSampler`.

    Attributes:
        origin (tuple[int, int]): State when the run was last resumed: the number of images that
            each rank had used, and the position in the order. (0, 0) in a new run.

    Args:
        dataset (Sized): The dataset.
        **kwargs: Arguments of MMEngine's ``InfiniteSampler``.
    """

    def __init__(self, dataset: Sized, **kwargs) -> None:
        super().__init__(dataset, **kwargs)
        self.origin = (0, 0)
        self._start = 0

    def position(self, taken: int) -> int:
        """Return the position in the order after each rank has used ``taken`` images."""
        before, position = self.origin
        return position + (taken - before) * self.world_size

    def skip(self, num_samples: int) -> None:
        """Skip the first ``num_samples`` images of each rank, in constant time."""
        self._start = self.position(num_samples)
        self.indices = self._indices_of_rank()

    def _indices_of_rank(self) -> Iterator[SeededIndex]:
        position, current = self._start + self.rank, None
        while True:
            epoch, row = divmod(position, self.size)
            if epoch != current:
                order, current = self._order(epoch), epoch
            yield SeededIndex(order[row], self.seed, 0, position)
            position += self.world_size

    def _order(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator().manual_seed(self.seed + epoch)
        return torch.randperm(self.size, generator=generator).tolist()
