"""Samplers that can start at any position and attach the seed of the transforms to each index."""

from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from mmengine.dataset import DefaultSampler, InfiniteSampler

from mmcrosscl.errors import InputError
from mmcrosscl.registry import DATA_SAMPLERS
from mmcrosscl.structures import SeededIndex

from .orders import BlockOrder, Order, RandomOrder, SortedOrder

# increases if a release changes the order of images for a seed and an epoch
ORDER = 2
# number of indices that are computed at a time
CHUNK = 256


class _Ordered:
    """Common part of the samplers: the order of an epoch, and its indices for one rank."""

    # attributes of MMEngine's samplers
    dataset: Any
    shuffle: bool
    seed: int
    rank: int
    world_size: int

    def _set_blocks(self, block_size: int | None, interleave: int) -> None:
        for name, value in dict(block_size=block_size, interleave=interleave).items():
            if value is not None and value < 1:
                raise InputError(f'{name} of the sampler is {value}; set a number of at least 1')
        self._block_size = block_size
        self._interleave = interleave

    def _order(self, epoch: int) -> Order:
        size = len(self.dataset)
        if not self.shuffle:
            return SortedOrder()
        if self._block_size is None:
            return RandomOrder(size, self.seed, epoch)
        return BlockOrder(size, self.seed, epoch, self._block_size, self._interleave)

    def _indices(self, order: Order, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the positions of this rank from ``first`` to ``stop`` - 1, and their indices."""
        step = CHUNK * self.world_size
        for begin in range(first, stop, step):
            positions = np.arange(begin, min(begin + step, stop), self.world_size)
            yield from zip(positions.tolist(), order.take(positions % len(self.dataset)).tolist())


@DATA_SAMPLERS.register_module()
class SeededSampler(_Ordered, DefaultSampler):
    """A ``DefaultSampler`` of MMEngine that yields :class:`SeededIndex` and can start mid-epoch.

    The order is a function of the seed, the epoch and the position in the epoch, so it is the same
    on any number of processes. It is computed while it is used, in constant memory.

    Attributes:
        start (int): Number of images to skip at the start of the next epoch, summed over all ranks.
            Later epochs are complete.

    Args:
        dataset (Sized): The dataset.
        block_size (int, optional): Number of images that are adjacent in the dataset and are read
            in sequence. The blocks are in random order. Defaults to None, which reads single images
            in random order.
        interleave (int): Number of blocks that are read at the same time. Each batch has images
            from these blocks. Defaults to 32.
        **kwargs: Arguments of ``DefaultSampler``.

    Raises:
        InputError: If ``block_size`` or ``interleave`` is below 1.
    """

    def __init__(
        self, dataset: Sized, block_size: int | None = None, interleave: int = 32, **kwargs
    ) -> None:
        super().__init__(dataset, **kwargs)
        self._set_blocks(block_size, interleave)
        self.start = 0

    def __iter__(self) -> Iterator[SeededIndex]:
        start, self.start = self.start, 0
        first = start + (self.rank - start) % self.world_size
        for position, index in self._indices(self._order(self.epoch), first, self.total_size):
            yield SeededIndex(index, self.seed, self.epoch, position)


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(_Ordered, InfiniteSampler):
    """An infinite sampler that yields :class:`SeededIndex` and can start at any position.

    The sampler passes over the dataset again and again. Pass e has the same order as epoch e of
    :class:`SeededSampler`.

    Attributes:
        origin (tuple[int, int]): State when the run was last resumed: the number of images that
            each rank had used, and the position in the order. (0, 0) in a new run.

    Args:
        dataset (Sized): The dataset.
        block_size (int, optional): See :class:`SeededSampler`.
        interleave (int): See :class:`SeededSampler`.
        **kwargs: Arguments of MMEngine's ``InfiniteSampler``.

    Raises:
        InputError: If ``block_size`` or ``interleave`` is below 1.
    """

    def __init__(
        self, dataset: Sized, block_size: int | None = None, interleave: int = 32, **kwargs
    ) -> None:
        super().__init__(dataset, **kwargs)
        self._set_blocks(block_size, interleave)
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
        first, size = self._start + self.rank, len(self.dataset)
        while True:
            epoch = first // size
            for position, index in self._indices(self._order(epoch), first, (epoch + 1) * size):
                yield SeededIndex(index, self.seed, 0, position)
            first = position + self.world_size
