import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcrosscl.datasets.orders import BlockOrder, RandomOrder


def everything(order, size):
    return order.take(np.arange(size))


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**32), epoch=st.integers(0, 10**6))
def test_a_random_order_is_a_permutation(size, seed, epoch):
    assert np.array_equal(
        np.sort(everything(RandomOrder(size, seed, epoch), size)), np.arange(size)
    )


@given(
    size=st.integers(1, 500), block_size=st.integers(1, 600), interleave=st.integers(1, 40),
    seed=st.integers(0, 100),
)  # fmt: skip
def test_an_order_of_blocks_is_a_permutation(size, block_size, interleave, seed):
    order = BlockOrder(size, seed, 0, block_size, interleave)
    assert np.array_equal(np.sort(everything(order, size)), np.arange(size))


def test_the_order_does_not_depend_on_the_positions_that_are_asked_together():
    order = RandomOrder(1000, seed=3, epoch=1)
    assert [int(order.take(np.array([p]))[0]) for p in range(1000)] == list(everything(order, 1000))


def test_the_order_is_the_documented_one():
    # a plain implementation of the docstring
    size, rows, columns = 23, 5, 5
    keys = [int(k) for k in np.random.SeedSequence((7, 2)).generate_state(8, np.uint64)]

    def mix(x):
        x %= 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    def permute(position):
        left, right = divmod(position, columns)
        for number, key in enumerate(keys):
            if number % 2 == 0:
                left = (left + mix(right + key)) % rows
            else:
                right = (right + mix(left + key)) % columns
        index = left * columns + right
        return index if index < size else permute(index)

    order = RandomOrder(size, seed=7, epoch=2)
    assert list(everything(order, size)) == [permute(position) for position in range(size)]


@pytest.mark.parametrize('size', [5, 100])
def test_every_index_is_equally_frequent_at_every_position(size):
    orders = 1500
    counts = np.zeros((size, size))
    for seed in range(orders):
        counts[np.arange(size), everything(RandomOrder(size, seed, 0), size)] += 1
    expected = orders / size
    chi2 = ((counts - expected) ** 2 / expected).sum()
    freedom = (size - 1) ** 2
    assert abs(chi2 - freedom) < 4 * np.sqrt(2 * freedom)


def test_neighbors_are_not_related():
    order = everything(RandomOrder(10**6, seed=0, epoch=0), 10**6) / 10**6
    for lag in (1, 2, 999, 1000, 1001):
        assert abs(np.corrcoef(order[:-lag], order[lag:])[0, 1]) < 0.005
    other = everything(RandomOrder(10**6, seed=0, epoch=1), 10**6) / 10**6
    assert abs(np.corrcoef(order, other)[0, 1]) < 0.005


def test_a_hundred_million_images_take_no_memory():
    order = RandomOrder(10**8, seed=0, epoch=0)
    positions = np.arange(10**8 - 1000, 10**8)
    indices = order.take(positions)
    assert len(set(indices.tolist())) == 1000 and 0 <= indices.min() < indices.max() < 10**8


def test_blocks_are_read_in_sequence_and_interleaved():
    order = BlockOrder(size=107, seed=0, epoch=0, block_size=10, interleave=4)
    indices = everything(order, 107)
    # ten blocks: two groups of four, and one of two
    for begin, width in ((0, 4), (40, 4), (80, 2)):
        columns = indices[begin : begin + 10 * width].reshape(10, width).T
        for column in columns:
            assert column[0] % 10 == 0 and np.array_equal(column, column[0] + np.arange(10))
    assert list(indices[100:]) == list(range(100, 107))
    assert list(indices[:4] // 10) != [0, 1, 2, 3]
