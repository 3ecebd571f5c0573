"""Hook that saves a checkpoint and exits when the job is preempted."""

import os
import threading
from pathlib import Path
from types import FrameType

import torch
from mmengine.dist import barrier, broadcast_object_list, get_world_size
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, EMAHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import distributed

from mmcrosscl.engine.optim.updates import updates_now
from mmcrosscl.errors import EXIT_PREEMPTED, PREEMPTING, Preempted
from mmcrosscl.registry import HOOKS

from .checkpoint_files import checkpoint_place
from .checkpoint_hook import SafeCheckpointHook, progress_of, step_of
from .loops import validates_now
from .process_groups import collective_timeout
from .run_marker import RunMarker
from .signals import handle, restore


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Saves a checkpoint after the current step and exits with status 75 on SIGTERM or SIGUSR1.

    Slurm, Kubernetes and spot instances send one of these signals to one process or to all
    processes before they take the machine. All ranks exit after the same step: in each step, an
    all-reduce in host memory tells all ranks whether any rank has received a signal, without
    waiting for the GPU. If gradients are accumulated, the last step is the next one that updates
    the weights. Validation is interrupted after the current batch, and repeated when the run
    resumes, also after a crash. The computation of the metrics after the last batch is not
    interrupted. If the result of a validation changes the training, as with ``ReduceOnPlateauLR``
    and ``EarlyStoppingHook``, a checkpoint that was saved before it is saved again after it.

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
        self._training = False
        # whether the loaded checkpoint was saved during validation
        self._validating = False
        # whether the loaded checkpoint was saved after the validation of its iteration
        self._validated = self._repeating = False
        self._common_batches = 0
        # how often the batches of a validation were started
        self._passes = 0

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        meta = checkpoint.get('meta', {})
        self._validating = meta.get('validating', False)
        self._validated = meta.get('validated', False)

    def before_train(self, runner: Runner) -> None:
        if get_world_size() > 1:
            # A process cannot exit while one of its groups waits, so this group has the same time
            # limit as the default group.
            timeout = collective_timeout(runner.cfg.get('env_cfg', {}))
            self._group = distributed.new_group(backend='gloo', timeout=timeout)
        self._signaled.clear()
        handle(PREEMPTING, self._on_signal)
        self._training = True
        # `load_from` also loads a checkpoint, but training then starts at iteration 0
        if runner.iter > 0 and runner.val_loop is not None:
            self._repeat_validation(runner)

    def _repeat_validation(self, runner: Runner) -> None:
        # only the main process may have access to the work dir
        killed = [
            validates_now(runner.train_loop)
            and not self._validated
            and self._marker(runner).validated() != runner.iter
        ]
        broadcast_object_list(killed)
        if not self._validating and not killed[0]:
            return
        runner.logger.info('The validation that was interrupted is repeated.')
        self._repeating = True
        runner.val_loop.run()
        self._repeating = False
        if self._validating or _keeps_best(runner):
            # the loaded checkpoint would repeat the validation again, or has an earlier best score
            save(runner, {**progress_of(runner, runner.iter), 'validated': True})
        self._note_validation(runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        self._start_vote()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        if self._any_signaled() and updates_now(runner.optim_wrapper):
            done = runner.iter + 1
            self._preempt(runner, progress_of(runner, done), f'after iteration {done}')

    def before_val(self, runner: Runner) -> None:
        # the ranks may validate different numbers of batches
        batches = torch.tensor(len(runner.val_dataloader))
        if self._group is not None:
            distributed.all_reduce(batches, distributed.ReduceOp.MIN, group=self._group)
        self._common_batches = int(batches) if self._training else 0
        self._passes = 0

    def before_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        self._passes += batch_idx == 0
        if batch_idx < self._common_batches:
            self._start_vote()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        if batch_idx >= self._common_batches or not self._any_signaled():
            return
        if not updates_now(runner.optim_wrapper):
            # accumulated gradients are in no checkpoint
            return
        for hook in runner.hooks:
            # The averaged weights are in the model until validation ends. MMPretrain's EMAHook then
            # starts a second pass with the trained weights. No public method exchanges them.
            averaged = getattr(hook, 'evaluate_on_ema', True) and self._passes == 1
            if isinstance(hook, EMAHook) and averaged:
                hook._swap_ema_parameters()
        progress = progress_of(runner, runner.iter, validating=True)
        self._preempt(runner, progress, f'during validation after iteration {runner.iter}')

    def after_val(self, runner: Runner) -> None:
        if self._training and not self._repeating:
            if _changes_training(runner):
                for hook in runner.hooks:
                    if isinstance(hook, SafeCheckpointHook):
                        hook.save_again(runner)
            self._note_validation(runner)

    def _note_validation(self, runner: Runner) -> None:
        # after the checkpoint is saved, so that a killed run repeats the validation
        self._marker(runner).note_validation(runner.iter)

    def after_train(self, runner: Runner) -> None:
        self._training = False
        self.restore_process_state(runner)

    def restore_process_state(self, runner: Runner) -> None:
        """Restore the previous signal handlers. ResumableRunner also calls it after exceptions."""
        if not self._preempted:
            restore()

    def _start_vote(self) -> None:
        if self._group is not None:
            signaled = torch.tensor(int(self._signaled.is_set()))
            work = distributed.all_reduce(
                signaled, distributed.ReduceOp.MAX, group=self._group, async_op=True
            )
            self._vote = signaled, work

    def _any_signaled(self) -> bool:
        if self._vote is None:
            return self._signaled.is_set()
        signaled, work = self._vote
        work.wait()
        return bool(signaled)

    def _preempt(self, runner: Runner, progress: dict, when: str) -> None:
        path = save(runner, progress)
        runner.logger.warning(
            f'Preempted: saved {path} {when}. The exit status is {EXIT_PREEMPTED}. Rerun with '
            '--resume.'
        )
        # Rank 0 writes the checkpoint. The launcher would kill it if another rank exited before.
        barrier()
        # When the first process exits, the launcher signals the others, which must keep status 75.
        handle(PREEMPTING, _exit_preempted)
        self._preempted = True
        raise Preempted

    @staticmethod
    def _marker(runner: Runner) -> RunMarker:
        return RunMarker(Path(runner.work_dir))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signaled.set()


def _changes_training(runner: Runner) -> bool:
    """Return whether the training depends on the results of validations."""
    schedulers = runner.param_schedulers
    groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers or []]
    plateau = any(getattr(each, 'need_val_args', False) for group in groups for each in group)
    return plateau or any(isinstance(hook, EarlyStoppingHook) for hook in runner.hooks)


def _keeps_best(runner: Runner) -> bool:
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return _changes_training(runner) or any(hook.save_best for hook in hooks)


def save(runner: Runner, progress: dict) -> str:
    """Save a checkpoint with any checkpoint hook or none, and return its path.

    Args:
        runner (Runner): The runner.
        progress (dict): Result of :func:`progress_of`.
    """
    hook = next((hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)), None)
    if hook is not None:
        return hook.save_now(runner, progress)
    # the config has a user-defined checkpoint hook, or none
    other = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    if other is None:
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        folder, template = checkpoint_place(runner)
    else:
        by_epoch = other.by_epoch
        folder, template = Path(other.out_dir), other.filename_tmpl
    name = template.format(step_of(progress, by_epoch))
    runner.save_checkpoint(str(folder), name, meta=progress, by_epoch=by_epoch)
    return str(folder / name)


def _exit_preempted(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_PREEMPTED)
