"""Summary and progress of a run on the screen."""

import time
from datetime import timedelta

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from mmcrosscl.detectors import loads_weights
from mmcrosscl.engine.optim import BFloat16OptimWrapper
from mmcrosscl.engine.sources import initial_sources
from mmcrosscl.engine.unwrap import unwrap_model
from mmcrosscl.progress import ProgressBar, write_line
from mmcrosscl.registry import HOOKS

from .training_log_hook import (
    data_wait,
    images_per_iteration,
    images_per_second,
    is_logged,
    window_mean,
)
from .unknown_categories import unknown_categories

# seconds between two updates of the losses on a terminal, because reading them waits for the GPU
NEXT_STATE = 10


@HOOKS.register_module()
class ProgressHook(Hook):
    """Log a summary of the run, and show the progress of training and evaluation.

    On a terminal, a progress bar shows the remaining time, the losses, the images per second and
    the share of the time that training waits for data. They are updated every 10 seconds and at the
    interval of ``LoggerHook``. If the output is not a terminal, a line of text shows the same at
    this interval.
    """

    # after IterTimerHook, which measures the time
    priority = 'LOW'

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None
        self._evaluation: ProgressBar | None = None
        self._state_due = 0.0

    def before_train(self, runner: Runner) -> None:
        runner.logger.info('\n'.join(['Training starts.', *summary(runner)]))
        if is_main_process():
            for warning in unknown_categories(runner.train_dataloader.dataset):
                runner.logger.warning(warning)
            self._bar = ProgressBar(
                'training', runner.max_iters, 'iterations', completed=runner.iter, lines=False
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        if self._bar is None:
            return
        done = runner.iter + 1
        epoch = ''
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            epoch = f'epoch {runner.epoch + 1}/{runner.max_epochs}'
        logged = is_logged(self, runner, batch_idx)
        if self._bar.on_terminal:
            details = None
            if logged or time.monotonic() >= self._state_due:
                details = ' · '.join(state(runner))
                self._state_due = time.monotonic() + NEXT_STATE
            if details is not None or self._bar.due:
                self._bar.update(done, epoch or None, details)
        elif logged:
            now = [f'iteration {done:,}/{runner.max_iters:,}', *state(runner)]
            write_line(' · '.join([epoch, *now] if epoch else now))

    def after_train(self, runner: Runner) -> None:
        self.restore_process_state(runner)

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        if mode != 'train' and is_main_process():
            loader = runner.val_dataloader if mode == 'val' else runner.test_dataloader
            name = dict(val='validation', test='test')[mode]
            self._evaluation = ProgressBar(name, len(loader), 'batches')

    def _after_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None, mode: str = 'train'
    ) -> None:
        if self._evaluation is not None and self._evaluation.due:
            self._evaluation.update(batch_idx + 1)

    def _after_epoch(self, runner: Runner, mode: str = 'train') -> None:
        if mode != 'train' and self._evaluation is not None:
            self._evaluation.close()
            self._evaluation = None

    def restore_process_state(self, runner: Runner) -> None:
        """Remove the bars; :class:`ResumableRunner` also calls this method after an exception."""
        for bar in (self._evaluation, self._bar):
            if bar is not None:
                bar.close()
        self._bar = self._evaluation = None


def summary(runner: Runner) -> list[str]:
    """Return a summary of a run that starts to train, one line per property."""
    model = unwrap_model(runner.model)
    loader = runner.train_dataloader
    processes = f' ({runner.world_size} processes)' if runner.world_size > 1 else ''
    root = getattr(loader.dataset, 'data_root', None)
    rows = dict(
        config=runner.cfg.filename or 'none',
        results=runner.work_dir,
        data=f'{len(loader.dataset):,} images{f" in {root}" if root else ""}, '
        f'{_count(loader.num_workers, "worker")} per process',
        model=describe_model(model),
        device=f'{describe_device(model)}{processes}, {precision(runner)}',
        schedule=f'{describe_schedule(runner)}, '
        f'{images_per_iteration(runner)} images per iteration',
        optimizer=describe_optimizer(runner),
        start=describe_start(runner),
    )
    return [f'  {name:9}  {value}' for name, value in rows.items()]


def describe_model(model: nn.Module) -> str:
    """Return the types of a model and its backbone, and the number of trained parameters."""
    backbone = getattr(model, 'backbone', None)
    name = type(model).__name__
    if backbone is not None:
        depth = getattr(backbone, 'depth', None)
        name += f' with {type(backbone).__name__}{f"-{depth}" if depth else ""}'
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f'{name}, {trained / 1e6:.1f} M trainable parameters'


def describe_device(model: nn.Module) -> str:
    """Return the name of the device of a model."""
    device = next(model.parameters()).device
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{device.type.upper()}, {_count(torch.get_num_threads(), "thread")}'


def precision(runner: Runner) -> str:
    """Return the precision of the forward pass."""
    if isinstance(runner.optim_wrapper, BFloat16OptimWrapper):
        return 'bfloat16'
    return 'float16' if isinstance(runner.optim_wrapper, AmpOptimWrapper) else 'float32'


def describe_schedule(runner: Runner) -> str:
    """Return the number of epochs and iterations."""
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        length = len(runner.train_dataloader)
        return f'{_count(runner.max_epochs, "epoch")} of {_count(length, "iteration")}'
    return _count(runner.max_iters, 'iteration')


def describe_optimizer(runner: Runner) -> str:
    """Return the optimizer, its first learning rate, and the schedulers."""
    # an OptimWrapperDict contains several optimizers and has no `optimizer`
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    if optimizer is None:
        return type(runner.optim_wrapper).__name__
    group = optimizer.param_groups[0]
    rate = group.get('initial_lr', group['lr'])
    schedulers = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    names = ', '.join(type(scheduler).__name__ for scheduler in schedulers)
    return f'{type(optimizer).__name__}, learning rate {rate:g}{f", {names}" if names else ""}'


def describe_start(runner: Runner) -> str:
    """Return the source of the weights."""
    if runner.iter:
        return f'resumes after iteration {runner.iter:,}'
    if sources := initial_sources(runner.cfg):
        return f'weights of {" and ".join(sources)}'
    model = runner.cfg.get('model')
    # a model that was not built from the config may have any weights
    certain = model is not None and not loads_weights(model)
    return 'random weights' if certain else 'initial weights of the config'


def state(runner: Runner) -> list[str]:
    """Return remaining time, losses, speed and memory, one string per value."""
    scalars = runner.message_hub.log_scalars
    names = [name.removeprefix('train/') for name in scalars if name.startswith('train/')]
    losses = [name for name in names if 'loss' in name and name != 'loss']
    parts = [f'{_time(runner.message_hub.get_info("eta", 0))} left']
    if 'loss' in names:
        parts.append(f'loss {window_mean(runner, "loss"):.3f}')
    parts += [f'{name.removeprefix("loss_")} {window_mean(runner, name):.3f}' for name in losses]
    parts.append(f'{images_per_second(runner):.3g} images/s')
    parts.append(f'data wait {100 * data_wait(runner):.0f} %')
    if torch.cuda.is_available():
        parts.append(f'{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB')
    return parts


def _count(number: int, unit: str) -> str:
    return f'{number:,} {unit}{"" if number == 1 else "s"}'


def _time(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
