"""Training loops that can resume within an epoch and that detect stalled data loading."""

import copy
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmcrosscl.compat.endless_batches import SKIPS, EndlessBatches, skip_images
from mmcrosscl.datasets import SeededSampler
from mmcrosscl.errors import InputError
from mmcrosscl.registry import LOOPS, component_class

from .data_loading import BatchIterator, end_workers


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """An ``EpochBasedTrainLoop`` of MMEngine that can resume within an epoch.

    A resumed loop skips the batches that the epoch has already used. With
    :class:`~mmcrosscl.datasets.SeededSampler`, these batches are not loaded. With other samplers,
    they are loaded again and dropped.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader | dict): The data loader or its config. In a config, ``timeout`` is
            the time limit for each batch, in seconds.
        **kwargs: Arguments of ``EpochBasedTrainLoop``.

    Raises:
        InputError: If the images do not fill a batch.
        RunError: During training, if a worker process dies or no batch arrives within ``timeout``.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, **kwargs) -> None:
        dataloader, self.timeout = _take_timeout(dataloader)
        super().__init__(runner, dataloader, **kwargs)
        if len(self.dataloader) == 0:
            raise InputError(
                f'{len(self.dataloader.dataset)} images do not fill a batch of '
                f'{self.dataloader.batch_size} on each of {runner.world_size} processes; add '
                'images, reduce train_dataloader.batch_size, or set '
                'train_dataloader.drop_last=False'
            )

    def run(self) -> nn.Module:
        """Train, then stop the worker processes."""
        try:
            return super().run()
        finally:
            end_workers(self.dataloader)

    def start_at(self, iteration: int) -> None:
        """Set the next iteration, counted from the start of training."""
        self._iter = iteration

    def run_epoch(self) -> None:
        """Run the rest of the epoch, with the hooks of a complete epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for idx, data_batch in self._batches(self._iter - self._epoch * len(self.dataloader)):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches(self, done: int) -> Iterator[tuple[int, object]]:
        sampler = self.dataloader.sampler
        skip = 0
        if done and isinstance(sampler, SeededSampler):
            sampler.start = done * self.dataloader.batch_size * sampler.world_size
            skip = done
        batches = BatchIterator(self.dataloader, self.timeout)
        for idx, batch in enumerate(batches, start=skip):
            if idx >= done:
                yield idx, batch


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """An ``IterBasedTrainLoop`` of MMEngine that detects stalled data loading.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader | dict): The data loader or its config. In a config, ``timeout`` is
            the time limit for each batch, in seconds.
        **kwargs: Arguments of ``IterBasedTrainLoop``.

    Raises:
        RunError: During training, if a worker process dies or no batch arrives within ``timeout``.
    """

    # MMEngine's iterator, then one of this module, and None after training
    dataloader_iterator: Any

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, **kwargs) -> None:
        dataloader, timeout = _take_timeout(dataloader)
        super().__init__(runner, dataloader, **kwargs)
        self._warn_of_small_dataset()
        batches = self.dataloader_iterator
        if not SKIPS:
            self.dataloader_iterator = None
            end_workers(self.dataloader)
            batches = EndlessBatches(self.dataloader)
        self.dataloader_iterator = _EndlessBatches(batches, timeout, self)

    def run(self) -> nn.Module:
        """Train, then stop the worker processes."""
        try:
            return super().run()
        finally:
            self.dataloader_iterator = None
            end_workers(self.dataloader)

    def _warn_of_small_dataset(self) -> None:
        dataset, batches = self.dataloader.dataset, self.dataloader.batch_sampler
        batch = getattr(batches, 'batch_size', 0) * self.runner.world_size
        if isinstance(dataset, Sized) and len(dataset) < batch:
            self.runner.logger.warning(
                f'The dataset has {len(dataset)} images, but each iteration uses {batch}. Images '
                'therefore repeat within an iteration, and in pre-training a repeated image is a '
                'negative of itself. Add images or reduce train_dataloader.batch_size.'
            )


class _EndlessBatches(BatchIterator):
    """Batches of MMEngine's endless iterator, which can skip the iterations before a resume."""

    # MMEngine's iterator, whose class is private, or its substitute
    batches: Any

    def __init__(self, batches: Iterable, timeout: float, loop: ResumableIterLoop) -> None:
        super().__init__(batches, timeout)
        self._loop = loop
        # None before the first request
        self._discarded: int | None = 0 if SKIPS else None

    def skip_iter(self, num_iters: int) -> None:
        self.batches.skip_iter(num_iters)

    def __next__(self) -> object:
        if self._discarded is None:
            # The loop is about to request and discard the batches before a resume.
            loader, done = self._loop.dataloader, self._loop.iter
            images = done * getattr(loader.batch_sampler, 'batch_size', 0)
            self._discarded = done if skip_images(loader.sampler, images) else 0
        if self._discarded:
            self._discarded -= 1
            return None
        return super().__next__()


def validates_now(loop: BaseLoop) -> bool:
    """Return whether a training loop of MMEngine validates after the iterations that are done."""
    if isinstance(loop, EpochBasedTrainLoop):
        if loop.iter != loop.epoch * len(loop.dataloader):
            return False
        done, last = loop.epoch, loop.max_epochs
    elif isinstance(loop, IterBasedTrainLoop):
        done, last = loop.iter, loop.max_iters
    else:
        return False
    # sets the interval of `dynamic_intervals`, as at this point of the loop; no method is public
    loop._decide_current_val_interval()
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)


# maps MMEngine's training loops to the loops that replace them in a ResumableRunner
REPLACED = {EpochBasedTrainLoop: ResumableEpochLoop, IterBasedTrainLoop: ResumableIterLoop}


def resumable(loop: dict) -> dict:
    """Return a loop's config in which a loop of this module replaces MMEngine's loop."""
    kind, by_epoch = loop.get('type'), loop.get('by_epoch')
    if kind is None:
        kind = EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop
    kind = component_class(LOOPS, kind)
    if kind not in REPLACED:
        return loop
    settings = {name: value for name, value in loop.items() if name != 'by_epoch'}
    return {**settings, 'type': REPLACED[kind]}


def _take_timeout(dataloader: DataLoader | dict) -> tuple[DataLoader | dict, float]:
    """Remove ``timeout`` from a loader's config, and return the config and the timeout.

    torch's ``timeout`` would delay the detection of dead workers.
    """
    if isinstance(dataloader, DataLoader):
        return dataloader, 0
    settings = copy.copy(dataloader)
    return settings, settings.pop('timeout', 0)
