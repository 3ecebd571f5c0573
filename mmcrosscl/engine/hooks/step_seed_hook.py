"""Seeds the randomness of the model in each step."""

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmcrosscl.registry import HOOKS


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seed torch before each iteration with the run's seed, the iteration and the rank.

    Drop path and dropout are then functions of the iteration, and checkpoints need no random state.
    """

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        torch.manual_seed(step_seed(runner.seed, runner.iter, runner.rank))


def step_seed(seed: int, iteration: int, rank: int) -> int:
    """Return the seed of a step on a rank."""
    return int(np.random.SeedSequence((seed, iteration, rank)).generate_state(1, np.uint64)[0])
