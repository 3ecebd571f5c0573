"""Training runs that write logs with MMEngine."""

import uuid
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor


class Toy(BaseModel):
    """Model whose loss and accuracy equal its inputs, which may be NaN or Inf."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor] | list[float]:
        if mode == 'loss':
            value = inputs.mean() + 0 * self.weight
            return dict(loss=value, loss_p4_p3=value.detach(), acc_p4_p3=value.detach())
        return inputs.tolist()


class Mean(BaseMetric):
    """Mean of the inputs."""

    default_prefix = 'toy'

    def process(self, data_batch: Tensor, data_samples: list[float]) -> None:
        self.results += data_samples

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return dict(mean=sum(results) / len(results))


def toy_run(
    work_dir: Path, inputs: list[float], by_epoch: bool = True, length: int = 2, **logger
) -> None:
    """Train and evaluate on one input per iteration.

    Args:
        work_dir (Path): Work dir of the run.
        inputs (list[float]): Losses of one epoch, and inputs of each evaluation.
        by_epoch (bool): Whether to train by epoch and evaluate after each epoch. If False, train by
            iteration and evaluate every two iterations.
        length (int): Number of epochs or iterations.
        **logger: Arguments of ``LoggerHook``.
    """
    data = torch.utils.data.DataLoader([dict(inputs=value) for value in inputs], batch_size=1)
    loop = dict(max_epochs=length) if by_epoch else dict(max_iters=length, val_interval=2)
    Runner(
        Toy(),
        work_dir=str(work_dir),
        experiment_name=str(uuid.uuid4()),
        train_dataloader=data,
        train_cfg=dict(by_epoch=by_epoch, **loop),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        val_dataloader=data,
        val_cfg=dict(),
        val_evaluator=[Mean()],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1, **logger), checkpoint=None),
        log_processor=dict(by_epoch=by_epoch, window_size=1),
        log_level='WARNING',
    ).train()
