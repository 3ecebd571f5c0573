"""Lists the image files that could not be read, and stops above a share of them."""

import os
from pathlib import Path

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmcrosscl.errors import InputError
from mmcrosscl.registry import HOOKS

# so many images must have been seen before a share of them says something
ENOUGH = 100
# what would end a line or a column
UNPRINTABLE = {number: f'\\x{number:02x}' for number in (*range(32), 127, 0x85, 0x2028, 0x2029)}


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Log each unreadable image file once, with the reason, and stop above a share of them.

    Reads the ``skipped_images`` that :class:`~mmcrosscl.datasets.UnlabeledDataset` attaches to data
    samples, and gathers them from all ranks. ``broken_images.txt`` in the work dir lists the files,
    one per line: path, tab, reason. Files that it listed before a resume are not logged again.

    Args:
        interval (int): Iterations between two checks. Defaults to 50.
        limit (float): Share of unreadable images among those seen so far, above 0 and at most 1,
            above which training stops. Defaults to 0.1.

    Raises:
        InputError: If the limit is out of range; in training, if it is exceeded.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 50, limit: float = 0.1) -> None:
        if not 0 < limit <= 1:
            raise InputError(
                f'limit is {limit}; give the largest share of unreadable images, above 0 and at '
                'most 1, such as 0.1'
            )
        self.interval = interval
        self.limit = limit
        self._reasons: dict[str, str] = {}
        self._named: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        self._list = Path(runner.work_dir, 'broken_images.txt')
        if self._list.exists():
            lines = self._list.read_text().splitlines()
            self._named = {line.partition('\t')[0] for line in lines}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        # other datasets may have other batches
        samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
        for sample in samples or ():
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
                # a name need not be text, and may have a tab or a line in it
                path, reason = _one_line(path), _one_line(reason)
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
        if not self._named:
            return
        images = len(runner.train_dataloader.dataset)
        batch = runner.train_dataloader.batch_sampler.batch_size * runner.world_size
        seen = min(runner.iter * batch + len(self._named), images)
        if seen >= min(ENOUGH, images) and len(self._named) > self.limit * seen:
            raise InputError(
                f'{len(self._named)} of the {seen} images seen so far are unreadable, more than '
                f'the limit of {self.limit:.0%}; {self._list} lists them: fix or remove them, or '
                'raise default_hooks.skipped_images.limit'
            )


def _one_line(text: str) -> str:
    return os.fsencode(text).decode(errors='backslashreplace').translate(UNPRINTABLE)
