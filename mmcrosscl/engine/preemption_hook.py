"""Ends training in good order when the machine is wanted for something else."""

import os
import signal
import threading
from datetime import timedelta
from types import FrameType

import torch
from mmengine.dist import barrier, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed

from mmcrosscl.registry import HOOKS

from .safe_checkpoint_hook import SafeCheckpointHook

# EX_TEMPFAIL of sysexits.h: a failure that trying again later mends
PREEMPTED = os.EX_TEMPFAIL
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGTERM or SIGUSR1 finish the step, save a checkpoint, and exit with status 75.

    What Slurm, Kubernetes and spot machines send before they take the machine, to one process or to
    all. All ranks end after the same step: whether any has been told travels during a step, in host
    memory, and no GPU is waited for. With accumulated gradients, the step that uses them is the
    last.
    """

    # the last one: what is saved has seen all other hooks, and none of them is left out
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._told = threading.Event()
        self._group = None
        self._vote: tuple[torch.Tensor, distributed.Work] | None = None
        self._before: dict[int, object] = {}

    def before_train(self, runner: Runner) -> None:
        if get_world_size() > 1:
            # as long as all others wait: a process does not end before its last group
            seconds = runner.cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
            self._group = distributed.new_group(
                backend='gloo', timeout=seconds and timedelta(seconds=seconds)
            )
        self._told.clear()
        # only there does Python let anyone ask for signals
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._tell)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        if self._group is not None:
            told = torch.tensor(int(self._told.is_set()))
            work = distributed.all_reduce(
                told, distributed.ReduceOp.MAX, group=self._group, async_op=True
            )
            self._vote = told, work

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        told = self._told.is_set()
        if self._vote is not None:
            tensor, work = self._vote
            work.wait()
            told = bool(tensor)
        if not told or not runner.optim_wrapper.should_update():
            return
        for hook in runner.hooks:
            if isinstance(hook, SafeCheckpointHook):
                hook.save_now(runner)
                runner.logger.warning(
                    f'Told to stop: saved {hook.last_ckpt} after iteration {runner.iter + 1}; '
                    f'--resume goes on from there. Exit status {PREEMPTED}.'
                )
        # rank 0 writes; a rank that left before would have the launcher kill it
        barrier()
        # nor may the launcher, told of the first to leave, end the others in another way
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        raise SystemExit(PREEMPTED)

    def after_train(self, runner: Runner) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._told.set()


def _tell_no_child() -> None:
    """Children are ended by SIGTERM, such as those of an evaluation's pool."""
    for number in SIGNALS:
        if isinstance(getattr(signal.getsignal(number), '__self__', None), PreemptionHook):
            signal.signal(number, signal.SIG_DFL)


os.register_at_fork(after_in_child=_tell_no_child)
