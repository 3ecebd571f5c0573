"""Hook that seeds torch before each training iteration."""

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmcrosscl.registry import HOOKS


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seeds torch before each iteration from the run's seed, the iteration and the rank.

    The randomness of the model, such as drop path and dropout, is therefore a function of the
    iteration, and checkpoints do not need to store random states.
    """

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        torch.manual_seed(step_seed(runner.seed, runner.iter, runner.rank))


def step_seed(seed: int, iteration: int, rank: int) -> int:
    """Return the seed of an iteration on a rank."""
    return int(np.random.SeedSequence((seed, iteration, rank)).generate_state(1, np.uint64)[0])
