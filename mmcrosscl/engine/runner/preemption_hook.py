"""Saves a checkpoint and exits when the machine is needed for something else."""

import os
import threading
from pathlib import Path
from types import FrameType

import torch
from mmengine.dist import barrier, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import distributed

from mmcrosscl.errors import EXIT_PREEMPTED, PREEMPTING, Preempted
from mmcrosscl.registry import HOOKS

from .checkpoint_files import checkpoint_place
from .checkpoint_hook import SafeCheckpointHook, progress_of, step_of
from .devices import collective_timeout
from .signals import handle, restore


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGTERM or SIGUSR1, finish the step, save a checkpoint, and exit with status 75.

    Slurm, Kubernetes and spot machines send one of them before they take the machine, to one
    process or to all. All ranks exit after the same step: whether any was signaled is communicated
    during a step, in host memory, without a wait for a GPU. With accumulated gradients, the step
    that uses them is the last.

    The signal handlers are those of before when training ends, also by an exception. After the
    checkpoint is saved, a further signal ends the process at once with status 75.

    Raises:
        Preempted: In training, after the checkpoint is saved.
    """

    # after all other hooks, so that none of them is skipped and the checkpoint has seen all
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._signaled = threading.Event()
        self._group = None
        self._vote: tuple[torch.Tensor, distributed.Work] | None = None
        self._preempted = False

    def before_train(self, runner: Runner) -> None:
        if get_world_size() > 1:
            # A process does not end before its last group, so this one waits as long as the others.
            timeout = collective_timeout(runner.cfg.get('env_cfg', {}))
            self._group = distributed.new_group(backend='gloo', timeout=timeout)
        self._signaled.clear()
        handle(PREEMPTING, self._on_signal)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        if self._group is not None:
            signaled = torch.tensor(int(self._signaled.is_set()))
            work = distributed.all_reduce(
                signaled, distributed.ReduceOp.MAX, group=self._group, async_op=True
            )
            self._vote = signaled, work

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        signaled = self._signaled.is_set()
        if self._vote is not None:
            tensor, work = self._vote
            work.wait()
            signaled = bool(tensor)
        if not signaled or not runner.optim_wrapper.should_update():
            return
        path = save(runner)
        runner.logger.warning(
            f'Preempted: saved {path} after iteration {runner.iter + 1}; resume with --resume. '
            f'Exit status {EXIT_PREEMPTED}.'
        )
        # Rank 0 writes; if another rank left earlier, the launcher would kill rank 0.
        barrier()
        # A launcher that sees the first process exit signals the others; their status must stay.
        handle(PREEMPTING, _exit_preempted)
        self._preempted = True
        raise Preempted

    def after_train(self, runner: Runner) -> None:
        self.restore_process_state(runner)

    def restore_process_state(self, runner: Runner) -> None:
        """Set the signal handlers of before; ResumableRunner calls it after exceptions too."""
        if not self._preempted:
            restore()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signaled.set()


def save(runner: Runner) -> str:
    """Save a checkpoint after an iteration, whatever hook the config has, and return its path."""
    hook = next((hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)), None)
    if hook is not None:
        return hook.save_now(runner)
    # a hook of the user's own, or none
    other = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    if other is None:
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        folder, template = checkpoint_place(runner)
    else:
        by_epoch = other.by_epoch
        folder, template = Path(other.out_dir), other.filename_tmpl
    name = template.format(step_of(runner, by_epoch))
    runner.save_checkpoint(str(folder), name, meta=progress_of(runner), by_epoch=by_epoch)
    return str(folder / name)


def _exit_preempted(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_PREEMPTED)
