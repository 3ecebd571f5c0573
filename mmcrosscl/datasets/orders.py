"""Orders of the images of an epoch, computed from the position: no list of all indices exists."""

import math
from typing import Protocol

import numpy as np

ROUNDS = 8


class Order(Protocol):
    """An order of the integers below the size of a dataset."""

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Return the indices at some positions.

        Args:
            positions (np.ndarray): (N,) int64, from 0 to the size of the dataset - 1.

        Returns:
            np.ndarray: (N,) int64.
        """
        ...


class SortedOrder:
    """The order of the dataset itself. See :class:`Order`."""

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Return the positions, which are the indices."""
        return positions


class RandomOrder:
    """A pseudorandom permutation, in constant memory. See :class:`Order`.

    The permutation is a Feistel network with 8 rounds over pairs (left, right) of integers below
    (rows, columns), with rows = ⌈√size⌉ and columns = ⌈size / rows⌉. A position p is the pair of
    quotient and remainder of p and columns. Even rounds add hash(right) to left, modulo rows, and
    odd rounds add hash(left) to right, modulo columns. A result ≥ size is permuted again until it
    is below size (cycle walking). See Black and Rogaway, "Ciphers with Arbitrary Finite Domains",
    2002. The hash is the finalizer of SplitMix64 (Steele et al., 2014) of the value plus the key of
    the round. The keys are the state of ``numpy.random.SeedSequence((seed, epoch))``.

    Args:
        size (int): Number of images, at least 1.
        seed (int): Seed of the sampler, at least 0.
        epoch (int): Epoch, at least 0.
    """

    def __init__(self, size: int, seed: int, epoch: int) -> None:
        self._size = size
        self._rows = math.isqrt(size - 1) + 1
        self._columns = -(-size // self._rows)
        self._keys = np.random.SeedSequence((seed, epoch)).generate_state(ROUNDS, np.uint64)

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Return the indices at some positions, in constant time per position."""
        indices = self._permute(np.asarray(positions, np.uint64))
        while len(outside := np.flatnonzero(indices >= self._size)):
            indices[outside] = self._permute(indices[outside])
        return indices.astype(np.int64)

    def _permute(self, values: np.ndarray) -> np.ndarray:
        rows, columns = np.uint64(self._rows), np.uint64(self._columns)
        left, right = np.divmod(values, columns)
        for number, key in enumerate(self._keys):
            if number % 2 == 0:
                left = (left + _hash(right + key) % rows) % rows
            else:
                right = (right + _hash(left + key) % columns) % columns
        return left * columns + right


class BlockOrder:
    """Random blocks of images that are adjacent in the dataset. See :class:`Order`.

    Within a block, the images are in the order of the dataset, which is their order in an archive.
    The first images of ``interleave`` blocks come first, then their second images, and so on. The
    images that do not fill a block are at the end of each epoch.

    Args:
        size (int): Number of images, at least 1.
        seed (int): Seed of the sampler, at least 0.
        epoch (int): Epoch, at least 0.
        block_size (int): Number of images per block, at least 1.
        interleave (int): Number of blocks that are read at the same time, at least 1.
    """

    def __init__(self, size: int, seed: int, epoch: int, block_size: int, interleave: int) -> None:
        self._block_size = block_size
        self._interleave = interleave
        self._blocks = size // block_size
        self._order = RandomOrder(max(self._blocks, 1), seed, epoch)

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Return the indices at some positions, in constant time per position."""
        indices = np.array(positions, np.int64)
        within = np.flatnonzero(indices < self._blocks * self._block_size)
        group, rest = np.divmod(indices[within], self._interleave * self._block_size)
        # the last group can have fewer blocks
        width = np.minimum(self._interleave, self._blocks - group * self._interleave)
        row, column = np.divmod(rest, width)
        blocks = self._order.take(group * self._interleave + column)
        indices[within] = blocks * self._block_size + row
        return indices


def _hash(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
