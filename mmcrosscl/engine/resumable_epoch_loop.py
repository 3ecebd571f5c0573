"""Training by epochs, from anywhere within one."""

from collections.abc import Iterator

from mmengine.runner import EpochBasedTrainLoop

from mmcrosscl.datasets import SeededSampler
from mmcrosscl.registry import LOOPS


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """MMEngine's ``EpochBasedTrainLoop``, which goes on within an epoch after a resume.

    The batches that the epoch already had are left out: at no cost where
    :class:`~mmcrosscl.datasets.SeededSampler` gives the order, else by loading them once more.

    Args:
        *args: Those of ``EpochBasedTrainLoop``, as **kwargs.
    """

    def run_epoch(self) -> None:
        """What is left of the epoch, with the hooks of a whole one around it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for idx, data_batch in self._batches(self._iter - self._epoch * len(self.dataloader)):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches(self, done: int) -> Iterator[tuple[int, dict]]:
        sampler = self.dataloader.sampler
        if done and isinstance(sampler, SeededSampler):
            sampler.start = done * self.dataloader.batch_size * sampler.world_size
            yield from enumerate(self.dataloader, start=done)
        else:
            yield from (batch for batch in enumerate(self.dataloader) if batch[0] >= done)
