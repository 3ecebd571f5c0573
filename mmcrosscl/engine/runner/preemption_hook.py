"""Hook that saves a checkpoint and exits when the job is preempted."""

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
    """Saves a checkpoint after the current step and exits with status 75 on SIGTERM or SIGUSR1.

    Slurm, Kubernetes and spot instances send one of these signals to one process or to all
    processes before they take the machine. All ranks exit after the same step: in each step, an
    all-reduce in host memory tells all ranks whether any rank has received a signal, without
    waiting for the GPU. If gradients are accumulated, the last step is the next one that updates
    the weights.

    When training ends, the hook restores the previous signal handlers, also after an exception.
    Once the checkpoint is saved, a further signal ends the process immediately with status 75.

    Raises:
        Preempted: During training, after the checkpoint is saved.
    """

    # runs after all other hooks, so that none of them is skipped before the checkpoint is saved
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._signaled = threading.Event()
        self._group = None
        self._vote: tuple[torch.Tensor, distributed.Work] | None = None
        self._preempted = False

    def before_train(self, runner: Runner) -> None:
        if get_world_size() > 1:
            # A process cannot exit while one of its groups waits, so this group has the same time
            # limit as the default group.
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
            f'Preempted: saved {path} after iteration {runner.iter + 1}. The exit status is '
            f'{EXIT_PREEMPTED}. Rerun with --resume.'
        )
        # Rank 0 writes the checkpoint. The launcher would kill it if another rank exited before.
        barrier()
        # When the first process exits, the launcher signals the others, which must keep status 75.
        handle(PREEMPTING, _exit_preempted)
        self._preempted = True
        raise Preempted

    def after_train(self, runner: Runner) -> None:
        self.restore_process_state(runner)

    def restore_process_state(self, runner: Runner) -> None:
        """Restore the previous signal handlers. ResumableRunner also calls it after exceptions."""
        if not self._preempted:
            restore()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signaled.set()


def save(runner: Runner) -> str:
    """Save a checkpoint after an iteration, with any checkpoint hook or none. Return its path."""
    hook = next((hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)), None)
    if hook is not None:
        return hook.save_now(runner)
    # the config has a user-defined checkpoint hook, or none
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
