"""Makes what a model draws in a step the same after a resume."""

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmcrosscl.registry import HOOKS


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seed torch before each iteration, by the run's seed, the iteration and the rank.

    Drop path and dropout are then functions of the iteration, and no state has to be saved.
    """

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        torch.manual_seed(step_seed(runner.seed, runner.iter, runner.rank))


def step_seed(seed: int, iteration: int, rank: int) -> int:
    """The seed of a step on a rank."""
    return int(np.random.SeedSequence((seed, iteration, rank)).generate_state(1, np.uint64)[0])
