"""Saves checkpoints, and deletes old ones only after that."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmcrosscl.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, which deletes old checkpoints after the new one is saved.

    This also holds for the best ones. :class:`ResumableRunner` writes each atomically.

    Args:
        *args: Those of ``CheckpointHook``.
        **kwargs: Those of ``CheckpointHook``.
    """

    def save_now(self, runner: Runner) -> str:
        """Save after an iteration, also within an epoch, and return the path."""
        self._save_checkpoint_with_step(runner, step_of(runner, self.by_epoch), progress_of(runner))
        return self.last_ckpt

    # MMEngine deletes within these two, before it saves. It has no hook point between.
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
    """A file backend that notes what it is asked to remove."""

    def __init__(self, backend: object) -> None:
        self.backend = backend
        self.paths: list[str | os.PathLike] = []

    def remove(self, path: str | os.PathLike) -> None:
        self.paths.append(path)

    def __getattr__(self, name: str) -> object:
        return getattr(self.backend, name)


def step_of(runner: Runner, by_epoch: bool) -> int | str:
    """Return what the name of a checkpoint has after ``epoch_`` or ``iter_``."""
    iteration = runner.iter + 1
    return f'{runner.epoch}_iter_{iteration}' if by_epoch else iteration


def progress_of(runner: Runner) -> dict:
    """Return the meta information of a checkpoint that is saved after an iteration."""
    return dict(epoch=runner.epoch, iter=runner.iter + 1)
