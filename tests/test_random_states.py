import random

import numpy as np
import pytest
import torch

from mmcrosscl.random_states import seeded


def numbers() -> list[float]:
    return [random.random(), np.random.rand(), float(torch.rand(()))]


def test_the_block_is_seeded():
    drawn = []
    for seed in (3, 3, 4):
        with seeded(seed):
            drawn.append(numbers())
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])


def test_the_states_are_restored_also_after_an_exception():
    with seeded(0):
        expected = numbers()
    with seeded(0):
        with pytest.raises(KeyError), seeded(1):
            numbers()
            raise KeyError
        assert numbers() == expected
