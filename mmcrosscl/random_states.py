"""Random states of the process."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed ``random``, NumPy and torch's CPU generator, and restore their states after the block.

    Args:
        seed (int): The seed, from 0 to 2³² − 1.
    """
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(seed)
            np.random.seed(seed)
            # torch.manual_seed would also seed the devices
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
