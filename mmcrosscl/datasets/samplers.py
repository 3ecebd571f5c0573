"""Orders of images that can start anywhere, and give each index the seed of its transforms."""

from collections.abc import Iterator, Sized

import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler

from mmcrosscl.registry import DATA_SAMPLERS
from mmcrosscl.structures import SeededIndex


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler`` with :class:`SeededIndex`; can start within an epoch.

    Attributes:
        start (int): Images to skip in the next epoch only, over all ranks.

    Args:
        dataset (Sized): The dataset.
        **kwargs: Those of ``DefaultSampler``.
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
    """Endless passes over the images with :class:`SeededIndex`; can start anywhere.

    Pass e has the order of epoch e of :class:`SeededSampler`.

    Attributes:
        origin (tuple[int, int]): The number of images of each rank when the run was last resumed,
            and the position of the order at that time. (0, 0) in a new run.

    Args:
        dataset (Sized): The dataset.
        **kwargs: Those of MMEngine's ``InfiniteSampler``.
    """

    def __init__(self, dataset: Sized, **kwargs) -> None:
        super().__init__(dataset, **kwargs)
        self.origin = (0, 0)
        self._start = 0

    def position(self, taken: int) -> int:
        """Return the position of the order after ``taken`` images of each rank."""
        before, position = self.origin
        return position + (taken - before) * self.world_size

    def skip(self, num_samples: int) -> None:
        """Start after ``num_samples`` images of each rank, in constant time."""
        self._start = self.position(num_samples)
        self.indices = self._indices_of_rank()

    def _indices_of_rank(self) -> Iterator[SeededIndex]:
        position, current = self._start + self.rank, None
        while True:
            number, row = divmod(position, self.size)
            if number != current:
                order, current = self._order(number), number
            yield SeededIndex(order[row], self.seed, 0, position)
            position += self.world_size

    def _order(self, number: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator().manual_seed(self.seed + number)
        return torch.randperm(self.size, generator=generator).tolist()
