"""Saves checkpoints, and deletes old ones only after that."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmcrosscl.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, which deletes old ones after the new one is in place.

    That also holds for the best ones. :class:`ResumableRunner` writes each as a whole.

    Args:
        *args: Those of ``CheckpointHook``, as **kwargs.
    """

    def written(self, runner: Runner) -> list[Path]:
        """The checkpoints of the work dir, newest first; those of an earlier run last."""
        folder = Path(runner.work_dir)
        if self.out_dir is not None:
            folder = Path(self.out_dir, folder.name)
        before, after = map(re.escape, self.filename_tmpl.split('{}'))
        numbers = {
            path: re.fullmatch(rf'{before}(\d+)(?:_iter_(\d+))?{after}', path.name)
            for path in folder.glob('*')
        }
        found = [
            (int(match[1]), int(match[2] or 0), path)
            for path, match in numbers.items()
            if match is not None
        ]
        found.sort(reverse=True)
        ordered = [path for *_, path in found]
        note = folder / 'last_checkpoint'
        named = (
            folder / Path(note.read_text(errors='replace').strip()).name if note.is_file() else None
        )
        if named in ordered:
            # one saved after that is newer, even if the note of it was not written any more
            written = named.stat().st_mtime_ns
            higher = ordered[: ordered.index(named)]
            left = [path for path in higher if path.stat().st_mtime_ns < written]
            ordered = [path for path in ordered if path not in left] + left
        return ordered

    def save_now(self, runner: Runner) -> None:
        """Save after an iteration, be it within an epoch, in place of the interval."""
        step = runner.iter + 1
        name = f'{runner.epoch}_iter_{step}' if self.by_epoch else step
        meta = dict(epoch=runner.epoch, iter=step)
        self._save_checkpoint_with_step(runner, name, meta)

    def _save_checkpoint_with_step(self, runner: Runner, step: int | str, meta: dict) -> None:
        with self._deleting_afterwards():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._deleting_afterwards():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _deleting_afterwards(self) -> Iterator[None]:
        if isinstance(self.file_backend, _Later):
            yield
            return
        backend = self.file_backend
        self.file_backend = _Later(backend)
        try:
            yield
            for path in self.file_backend.paths:
                backend.remove(path)
        finally:
            self.file_backend = backend


class _Later:
    """A file backend that notes what it is to remove."""

    def __init__(self, backend: object) -> None:
        self.backend = backend
        self.paths: list[str | os.PathLike] = []

    def remove(self, path: str | os.PathLike) -> None:
        self.paths.append(path)

    def __getattr__(self, name: str) -> object:
        return getattr(self.backend, name)
