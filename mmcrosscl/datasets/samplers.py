"""Orders of images in which each knows its place, so that a run can go on from any of them."""

import random
from collections.abc import Iterator, Sized

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler

from mmcrosscl.registry import DATA_SAMPLERS


class SeededIndex(int):
    """The index of an image, and where in the run's order it stands.

    What is drawn for an image is a function of its place alone: of no worker process, of nothing
    that was drawn before, and of no rank. Wrappers like ``ConcatDataset`` and ``RepeatDataset``
    work out an index of their own by subtraction or remainder; it stays at the same place.

    Args:
        index (int): Of the image in the dataset.
        seed (int): The order's.
        epoch (int): 0 where an order has none.
        position (int): In the order of the epoch, counted over all ranks.
    """

    def __new__(cls, index: int, seed: int, epoch: int, position: int) -> 'SeededIndex':
        place = super().__new__(cls, index)
        place.seed, place.epoch, place.position = seed, epoch, position
        return place

    def __getnewargs__(self) -> tuple[int, int, int, int]:
        return int(self), self.seed, self.epoch, self.position

    def at(self, index: int) -> 'SeededIndex':
        """Another image in the same place."""
        return SeededIndex(index, self.seed, self.epoch, self.position)

    def __sub__(self, other: int) -> 'SeededIndex':
        return self.at(int(self) - other)

    def __mod__(self, other: int) -> 'SeededIndex':
        return self.at(int(self) % other)

    def seed_generators(self) -> None:
        """Make what NumPy, ``random`` and torch draw next a function of the place."""
        words = np.random.SeedSequence((self.seed, self.epoch, self.position)).generate_state(4)
        np.random.seed(words)
        random.seed(words.tobytes())
        # torch.manual_seed looks for devices, which takes a tenth of the time for an image
        torch.default_generator.manual_seed(int(words[0]))


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler``, of places; may begin within an epoch.

    Attributes:
        start (int): Of the next epoch alone, how many images it leaves out, over all ranks.

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
    """Pass after pass over the images without an end, of places; may begin anywhere.

    Pass e has the order of epoch e of :class:`SeededSampler`.

    Attributes:
        origin (tuple[int, int]): How many images each rank had when the run was last resumed, and
            at which position the order was then. (0, 0) in a new run.

    Args:
        dataset (Sized): The dataset.
        **kwargs: Those of MMEngine's ``InfiniteSampler``.
    """

    def __init__(self, dataset: Sized, **kwargs) -> None:
        super().__init__(dataset, **kwargs)
        self.origin = (0, 0)
        self._start = 0

    def position(self, taken: int) -> int:
        """Where the order is once each rank has had ``taken`` images."""
        before, position = self.origin
        return position + (taken - before) * self.world_size

    def skip(self, num_samples: int) -> None:
        """Begin where each rank has had ``num_samples`` images; takes no time."""
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
