"""Names and counts the image files that could not be read."""

import os

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmcrosscl.registry import HOOKS


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Log each broken image file once, with the reason and how many there have been so far.

    Reads what :class:`~mmcrosscl.datasets.UnlabelledDataset` leaves in the data samples and gathers
    it from all ranks.

    Args:
        interval (int): Iterations between two looks. Defaults to 50.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._reasons: dict[str, str] = {}
        self._named: set[str] = set()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        for sample in data_batch['data_samples']:
            self._reasons.update(sample.get('skipped_images', ()))
        if self.every_n_train_iters(runner, self.interval):
            self._report(runner)

    def after_train(self, runner: Runner) -> None:
        self._report(runner)
        if self._named:
            runner.logger.warning(
                f'{len(self._named)} broken image files were skipped in all; each is named above.'
            )

    def _report(self, runner: Runner) -> None:
        for reasons in all_gather_object(self._reasons):
            for path, reason in reasons.items():
                if path not in self._named:
                    self._named.add(path)
                    # a name need not be text
                    shown = os.fsencode(path).decode(errors='backslashreplace')
                    runner.logger.warning(
                        f'Skipped broken image {shown} ({reason}); {len(self._named)} so far.'
                    )
        self._reasons.clear()
