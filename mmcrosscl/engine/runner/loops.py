"""MMEngine's training loops, which can resume within an epoch and notice stalled data loading."""

import copy
from collections.abc import Iterator

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmcrosscl.datasets import SeededSampler
from mmcrosscl.errors import InputError
from mmcrosscl.registry import LOOPS, component_class

from .data_loading import BatchIterator, end_workers


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """MMEngine's ``EpochBasedTrainLoop``, which resumes within an epoch.

    Batches that the epoch already had are skipped: at no cost where
    :class:`~mmcrosscl.datasets.SeededSampler` gives the order, else by loading them again.
    Training ends with one sentence when a worker process dies, or when no batch arrives within the
    loader's ``timeout`` seconds.

    Args:
        runner (Runner): Runs the loop.
        dataloader (DataLoader | dict): The loader or its config.
        **kwargs: Those of ``EpochBasedTrainLoop``.

    Raises:
        InputError: If the images do not fill a batch.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, **kwargs) -> None:
        dataloader, self.timeout = _take_timeout(dataloader)
        super().__init__(runner, dataloader, **kwargs)
        if len(self.dataloader) == 0:
            raise InputError(
                f'{len(self.dataloader.dataset)} images do not fill a batch of '
                f'{self.dataloader.batch_size} on each of {runner.world_size} processes; give more '
                'images, a smaller train_dataloader.batch_size or train_dataloader.drop_last=False'
            )

    def run(self) -> nn.Module:
        """Train, and end the worker processes."""
        try:
            return super().run()
        finally:
            end_workers(self.dataloader)

    def start_at(self, iteration: int) -> None:
        """Set the iteration, counted from the start of training, that runs next."""
        self._iter = iteration

    def run_epoch(self) -> None:
        """Run the rest of the epoch, with the hooks of a complete one."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for idx, data_batch in self._batches(self._iter - self._epoch * len(self.dataloader)):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches(self, done: int) -> Iterator[tuple[int, dict]]:
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
    """MMEngine's ``IterBasedTrainLoop``, which notices stalled data loading.

    Training ends with one sentence when a worker process dies, or when no batch arrives within the
    loader's ``timeout`` seconds.

    Args:
        runner (Runner): Runs the loop.
        dataloader (DataLoader | dict): The loader or its config.
        **kwargs: Those of ``IterBasedTrainLoop``.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, **kwargs) -> None:
        dataloader, timeout = _take_timeout(dataloader)
        super().__init__(runner, dataloader, **kwargs)
        self.dataloader_iterator = _EndlessBatches(self.dataloader_iterator, timeout)

    def run(self) -> nn.Module:
        """Train, and end the worker processes."""
        try:
            return super().run()
        finally:
            self.dataloader_iterator = None
            end_workers(self.dataloader)


class _EndlessBatches(BatchIterator):
    """MMEngine's endless iterator, watched; it also moves on to the iteration of a resume."""

    def skip_iter(self, num_iters: int) -> None:
        self.batches.skip_iter(num_iters)


# what a config of MMEngine means in a ResumableRunner
REPLACED = {EpochBasedTrainLoop: ResumableEpochLoop, IterBasedTrainLoop: ResumableIterLoop}


def resumable(loop: dict) -> dict:
    """Return a loop's config with the loops of this module instead of MMEngine's."""
    kind, by_epoch = loop.get('type'), loop.get('by_epoch')
    if kind is None:
        kind = EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop
    kind = component_class(LOOPS, kind)
    if kind not in REPLACED:
        return loop
    settings = {name: value for name, value in loop.items() if name != 'by_epoch'}
    return {**settings, 'type': REPLACED[kind]}


def _take_timeout(dataloader: DataLoader | dict) -> tuple[DataLoader | dict, float]:
    """Split off the time limit of a loader's config; torch's would delay the notice of a death."""
    if isinstance(dataloader, DataLoader):
        return dataloader, 0
    settings = copy.copy(dataloader)
    return settings, settings.pop('timeout', 0)
