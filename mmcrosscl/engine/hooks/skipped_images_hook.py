"""Hook that lists unreadable image files, and stops training if their share is too high."""

import os
from pathlib import Path

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmcrosscl.engine.batches import batch_size, data_samples
from mmcrosscl.errors import InputError
from mmcrosscl.registry import HOOKS

# number of images to see before the share of unreadable images is checked
ENOUGH = 100
# maps control characters, which could end a line or a column of the list, to escape sequences
UNPRINTABLE = {number: f'\\x{number:02x}' for number in (*range(32), 127, 0x85, 0x2028, 0x2029)}


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Logs each unreadable image file once, and stops training if their share is too high.

    The hook reads the ``skipped_images`` that :class:`~mmcrosscl.datasets.UnlabeledDataset`
    attaches to data samples, and gathers them from all ranks. ``broken_images.txt`` in the work dir
    lists the files, one per line: path, tab, reason. A resumed run does not log the files that are
    already in this list. It counts unreadable images anew, so it continues once the files are fixed
    or removed.

    Args:
        interval (int): Number of iterations between two checks. Defaults to 50.
        limit (float): Largest allowed share of unreadable images among the images seen since
            training was started or resumed, above 0 and at most 1. Training stops above this share.
            Defaults to 0.1.

    Raises:
        InputError: If ``limit`` is out of range. During training, if the share exceeds ``limit``.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 50, limit: float = 0.1) -> None:
        if not 0 < limit <= 1:
            raise InputError(
                f'expected a limit above 0 and at most 1, but got {limit}; set limit to the '
                'largest allowed share of unreadable images, such as 0.1'
            )
        self.interval = interval
        self.limit = limit
        self._reasons: dict[str, str] = {}
        # files in the list, and files that are unreadable since training was started or resumed
        self._named: set[str] = set()
        self._unreadable: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        self._start = runner.iter
        self._list = Path(runner.work_dir, 'broken_images.txt')
        if self._list.exists():
            lines = self._list.read_text().splitlines()
            self._named = {line.partition('\t')[0] for line in lines}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        for sample in data_samples(data_batch):
            self._reasons.update(sample.get('skipped_images', ()))
        if self.every_n_train_iters(runner, self.interval):
            self._report(runner)

    def after_train(self, runner: Runner) -> None:
        self._report(runner)
        if self._named:
            runner.logger.warning(
                f'{len(self._named)} unreadable image files were skipped in total; {self._list} '
                'lists them.'
            )

    def _report(self, runner: Runner) -> None:
        lines = []
        for reasons in all_gather_object(self._reasons):
            for path, reason in reasons.items():
                # a file name may contain invalid UTF-8, tabs and line breaks
                path, reason = _one_line(path), _one_line(reason)
                self._unreadable.add(path)
                if path not in self._named:
                    self._named.add(path)
                    lines.append(f'{path}\t{reason}\n')
                    runner.logger.warning(
                        f'Skipped unreadable image {path} ({reason}); {len(self._named)} so far.'
                    )
        self._reasons.clear()
        if lines and is_main_process():
            with self._list.open('a') as file:
                file.writelines(lines)
        if not self._unreadable:
            return
        images = len(runner.train_dataloader.dataset)
        batch = batch_size(runner.train_dataloader) * runner.world_size
        unreadable = len(self._unreadable)
        seen = min((runner.iter - self._start) * batch + unreadable, images)
        if seen >= min(ENOUGH, images) and unreadable > self.limit * seen:
            raise InputError(
                f'{unreadable} of the {seen} images seen so far are unreadable, more than '
                f'the limit of {self.limit:.0%}; fix or remove the files listed in {self._list}, '
                'or increase default_hooks.skipped_images.limit, and rerun with --resume'
            )


def _one_line(text: str) -> str:
    return os.fsencode(text).decode(errors='backslashreplace').translate(UNPRINTABLE)
