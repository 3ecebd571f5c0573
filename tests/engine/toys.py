"""A training of a few weights, for tests of hooks, schedules and data loaders."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from mmcrosscl.engine import build_runner


class Killed(BaseException):
    """Ends a training as SIGKILL does: nothing is saved."""


@DATASETS.register_module()
class Numbers(Dataset):
    """Items with a number, some of which are NaN. ``loaded`` lists the items in their order."""

    metainfo: dict = {}

    def __init__(self, length: int = 16, bad: Sequence[int] = ()) -> None:
        self.length, self.bad = length, bad
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return self.length

    def get_data_info(self, index: int) -> dict:
        return dict(width=1 + index % 3, height=2)

    def __getitem__(self, index: int) -> dict:
        self.loaded.append(int(index))
        values = torch.randn(4, generator=torch.Generator().manual_seed(int(index)))
        if index in self.bad:
            values[0] = torch.nan
        return dict(inputs=values, data_samples=BaseDataElement())


@MODELS.register_module()
class TinyNet(BaseModel):
    """Two linear layers with batch norm in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        values = self.last(self.norm(self.first(torch.stack(list(inputs)))))
        return dict(loss=(values - 1).square().mean()) if mode == 'loss' else list(values)


@METRICS.register_module()
class Scores(BaseMetric):
    """Returns the given scores, one after the other."""

    def __init__(self, scores: Sequence[float]) -> None:
        super().__init__()
        self.scores = list(scores)

    def process(self, data_batch, data_samples) -> None:
        self.results.extend([0] * len(data_samples))

    def compute_metrics(self, results: list) -> dict:
        return dict(score=self.scores[self.number])


@HOOKS.register_module()
class Interrupt(Hook):
    """Kills the training before an iteration or a batch of a validation, or sends SIGTERM there.

    A batch of a validation is given by the iteration before it and its number. With ``scored``, the
    training is killed after the validation of this iteration, when its result has been used.
    """

    priority = 'BELOW_NORMAL'

    def __init__(
        self,
        train: int | None = None,
        killed: tuple | None = None,
        signaled: tuple | None = None,
        scored: int | None = None,
    ) -> None:
        self.train, self.killed, self.signaled, self.scored = train, killed, signaled, scored
        self.batches = 0

    def before_val_epoch(self, runner) -> None:
        self.batches = 0
        # epochs of four iterations
        runner.val_evaluator.metrics[0].number = runner.iter // 4 - 1

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == self.train:
            raise Killed

    def before_val_iter(self, runner, batch_idx, data_batch=None) -> None:
        if (runner.iter, self.batches) == self.signaled:
            os.kill(os.getpid(), signal.SIGTERM)
        if (runner.iter, self.batches) == self.killed:
            raise Killed
        self.batches += 1

    def after_val(self, runner) -> None:
        if runner.iter == self.scored:
            raise Killed


def toy(folder: Path, scores: Sequence[float] = (), by_epoch: bool = True, **settings) -> Config:
    """Return the config of three epochs, or twelve iterations, of four batches of four items.

    With ``scores``, one for each epoch, each epoch is validated.
    """
    loader = dict(batch_size=4, num_workers=0, dataset=dict(type='Numbers'))
    order = dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=False)
    cfg = dict(
        default_scope='mmengine',
        launcher='none',
        work_dir=str(folder),
        model=dict(type='TinyNet'),
        randomness=dict(seed=1),
        train_dataloader=dict(**loader, sampler=order),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(type='mmcrosscl.FiniteOptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[],
    )
    if not by_epoch:
        checkpoint = dict(type='mmcrosscl.SafeCheckpointHook', by_epoch=False, interval=4)
        cfg.update(default_hooks=dict(checkpoint=checkpoint), log_processor=dict(by_epoch=False))
        cfg['train_cfg'] = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=4)
    if scores:
        cfg.update(
            val_dataloader=dict(**loader, sampler=dict(type='DefaultSampler', shuffle=False)),
            val_cfg=dict(type='ValLoop'),
            val_evaluator=dict(type='Scores', scores=scores),
        )
    cfg = Config(cfg)
    cfg.merge_from_dict(settings)
    return cfg


def train(cfg: Config, **interrupt):
    """Train until the end or :class:`Killed`, and return the runner."""
    cfg.custom_hooks.append(dict(type='Interrupt', **interrupt))
    runner = build_runner(cfg)
    try:
        runner.train()
    except Killed:
        pass
    return runner
