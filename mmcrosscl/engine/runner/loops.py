"""Training loops that can resume within an epoch and that detect stalled data loading."""

import copy
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from mmcrosscl.compat.endless_batches import SKIPS, EndlessBatches, is_endless, skip_images
from mmcrosscl.datasets import SeededSampler
from mmcrosscl.engine.batches import batch_size
from mmcrosscl.errors import InputError
from mmcrosscl.registry import LOOPS, component_class

from .data_loading import BatchIterator, end_workers, omit_batches


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """An ``EpochBasedTrainLoop`` of MMEngine that can resume within an epoch.

    A resumed loop skips the batches that the epoch has already used. They are not loaded again,
    except those of an ``IterableDataset``.

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
        elif done and omit_batches(self.dataloader, done):
            skip = done
        batches = BatchIterator(self.dataloader, self.timeout)
        for idx, batch in enumerate(batches, start=skip):
            if idx >= done:
                yield idx, batch


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """An ``IterBasedTrainLoop`` of MMEngine that detects stalled data loading.

    A resumed loop with an infinite sampler does not load the batches before the resume again.

    Attributes:
        origin (tuple[int, int]): State when the run was last resumed: the number of iterations, and
            of images that all processes had used. (0, 0) in a new run, and with
            :class:`~mmcrosscl.datasets.SeededInfiniteSampler`, which has an origin of its own.

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
        self.origin = (0, 0)
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

    def images_after(self, iterations: int) -> int:
        """Return the number of images that all processes have used after some iterations."""
        before, images = self.origin
        batch = batch_size(self.dataloader) * self.runner.world_size
        return images + (iterations - before) * batch

    def skip(self, iterations: int) -> bool:
        """Omit the batches before a resume without loading them, and return whether it worked."""
        loader, size = self.dataloader, batch_size(self.dataloader)
        sampler = getattr(loader.batch_sampler, 'sampler', None)
        images = self.images_after(iterations) // self.runner.world_size
        # a batch sampler of another class may change the order of the sampler
        plain = type(loader.batch_sampler) is BatchSampler
        if plain and skip_images(sampler, images):
            return True
        return is_endless(sampler) and omit_batches(loader, images // size)

    def _warn_of_small_dataset(self) -> None:
        dataset = self.dataloader.dataset
        batch = batch_size(self.dataloader) * self.runner.world_size
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
        if not self._loop.skip(num_iters):
            self.batches.skip_iter(num_iters)

    def __next__(self) -> object:
        if self._discarded is None:
            # The loop is about to request and discard the batches before a resume.
            done = self._loop.iter
            self._discarded = done if done and self._loop.skip(done) else 0
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
