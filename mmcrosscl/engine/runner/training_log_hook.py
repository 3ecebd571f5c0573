"""Speed, memory, gradient norm and share of paired windows in the training log."""

import resource

import torch
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner
from torch import Tensor

from mmcrosscl.engine.batches import batch_size, data_samples
from mmcrosscl.registry import HOOKS


@HOOKS.register_module()
class TrainingLogHook(Hook):
    """Adds scalars to the training log, at the interval of ``LoggerHook``.

    - images_per_second: images of all processes, over the window of the log processor.
    - data_wait: share of the time that the host waits for data, from 0 to 1, over the same window.
      Meanwhile, the GPU may still compute the previous iteration.
    - memory: peak memory of the main process in MB, without a GPU. With a GPU, MMEngine logs the
      peak memory of the GPU under this name.
    - gradient_norm: mean of the norm of all gradients since the last log, with an optimizer wrapper
      that computes it, such as :class:`FiniteOptimWrapper`.
    - paired_share: share of the windows that lie within both views, from 0 to 1, in the batches of
      the main process since the last log.
    """

    # after IterTimerHook, which is registered first, and before LoggerHook
    priority = 'NORMAL'

    def __init__(self) -> None:
        self._norms: list[Tensor] = []
        self._paired = self._windows = 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        for sample in data_samples(data_batch):
            if 'paired' in sample:
                self._paired += int(sample.paired.sum())
                self._windows += len(sample.paired)
        if (norm := getattr(runner.optim_wrapper, 'gradient_norm', None)) is not None:
            # kept on the device, because reading it would wait for the device
            self._norms.append(norm)
        if is_logged(self, runner, batch_idx):
            for name, value in self._scalars(runner).items():
                runner.message_hub.update_scalar(f'train/{name}', value)
            self._norms.clear()
            self._paired = self._windows = 0

    def _scalars(self, runner: Runner) -> dict[str, float | Tensor]:
        scalars: dict[str, float | Tensor] = dict(
            images_per_second=images_per_second(runner), data_wait=data_wait(runner)
        )
        if not torch.cuda.is_available():
            # Linux reports KiB
            scalars['memory'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if self._norms:
            scalars['gradient_norm'] = torch.stack(self._norms).mean()
        if self._windows:
            scalars['paired_share'] = self._paired / self._windows
        return scalars


def is_logged(hook: Hook, runner: Runner, batch_idx: int) -> bool:
    """Return whether ``LoggerHook`` logs this iteration, or the iteration is the last one."""
    interval = next((h.interval for h in runner.hooks if isinstance(h, LoggerHook)), 50)
    return hook.every_n_inner_iters(batch_idx, interval) or runner.iter + 1 == runner.max_iters


def window_mean(runner: Runner, name: str) -> float:
    """Return the mean of a training scalar over the window of the log processor."""
    history = runner.message_hub.get_scalar(f'train/{name}')
    return float(history.mean(runner.log_processor.window_size))


def images_per_second(runner: Runner) -> float:
    """Return the images of all processes per second."""
    return images_per_iteration(runner) / window_mean(runner, 'time')


def data_wait(runner: Runner) -> float:
    """Return the share of the time that training waits for data, from 0 to 1."""
    return min(window_mean(runner, 'data_time') / window_mean(runner, 'time'), 1)


def images_per_iteration(runner: Runner) -> int:
    """Return the number of images in a batch of all processes."""
    return batch_size(runner.train_dataloader) * runner.world_size
