"""Checkpoint hook that deletes old checkpoints only after the new one is saved."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmcrosscl.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """A ``CheckpointHook`` of MMEngine that deletes old checkpoints after saving the new one.

    The best checkpoints of ``save_best`` are handled in the same way. After a new best score, the
    latest checkpoint is saved again when all hooks have processed the result of the validation.
    :class:`ResumableRunner` writes each checkpoint atomically.

    Args:
        *args: Arguments of ``CheckpointHook``.
        **kwargs: Keyword arguments of ``CheckpointHook``.
    """

    # MMEngine sets it when training begins; its backends have no common type
    file_backend: Any = None
    # whether the current validation has a new best score
    _new_best = False

    def before_val(self, runner: Runner) -> None:
        self._new_best = False

    def after_val(self, runner: Runner) -> None:
        if self._new_best:
            self._save_validated(runner)

    def save_now(self, runner: Runner, progress: dict) -> str:
        """Save a checkpoint within an epoch or a validation, and return its path.

        Args:
            runner (Runner): The runner.
            progress (dict): Result of :func:`progress_of`.
        """
        self._save_checkpoint_with_step(runner, step_of(progress, self.by_epoch), progress)
        return self.last_ckpt

    def save_again(self, runner: Runner) -> None:
        """Save the checkpoint that was saved before a validation again after it, if there is one.

        Nothing is saved if the hook has done so because of a new best score.

        Args:
            runner (Runner): The runner.
        """
        name = self.filename_tmpl.format(self._step(runner))
        if Path(self.last_ckpt or '').name == name and not self._new_best:
            self._save_validated(runner)

    def _save_validated(self, runner: Runner) -> None:
        meta = {**progress_of(runner, runner.iter), 'validated': True}
        self._save_checkpoint_with_step(runner, self._step(runner), meta)

    def _step(self, runner: Runner) -> int:
        return runner.epoch if self.by_epoch else runner.iter

    # MMEngine deletes old checkpoints within the next two methods, before it saves the new one. It
    # has no hook point between the two steps.
    def _save_checkpoint_with_step(self, runner: Runner, step: int | str, meta: dict) -> None:
        if isinstance(self.file_backend, _Later):
            # A new best score. Hooks that follow may still change the state of the training, so a
            # run that resumed from a checkpoint of this moment would use the score twice.
            self._new_best = True
            return
        with self._deleting_afterwards():
            super()._save_checkpoint_with_step(runner, step, meta)
        runner.logger.info(f'Saved {self.last_ckpt}')

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if self.file_backend is None:
            # a validation without training
            return
        with self._deleting_afterwards():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _deleting_afterwards(self) -> Iterator[None]:
        backend = self.file_backend
        self.file_backend = _Later(backend)
        try:
            yield
            for path in self.file_backend.paths:
                backend.remove(path)
        finally:
            self.file_backend = backend


class _Later:
    """File backend that records the files to remove instead of removing them."""

    def __init__(self, backend: object) -> None:
        self.backend = backend
        self.paths: list[str | os.PathLike] = []

    def remove(self, path: str | os.PathLike) -> None:
        self.paths.append(path)

    def __getattr__(self, name: str) -> object:
        return getattr(self.backend, name)


def progress_of(runner: Runner, iterations: int, validating: bool = False) -> dict:
    """Return the meta information of a checkpoint within an epoch or a validation.

    Args:
        runner (Runner): The runner.
        iterations (int): Number of training iterations that are done.
        validating (bool): Whether a resumed run must validate first. Defaults to False.
    """
    return dict(epoch=runner.epoch, iter=iterations, validating=validating)


def step_of(progress: dict, by_epoch: bool) -> int | str:
    """Return the value that replaces ``{}`` in the template of a checkpoint's name."""
    iteration = progress['iter']
    return f'{progress["epoch"]}_iter_{iteration}' if by_epoch else iteration
