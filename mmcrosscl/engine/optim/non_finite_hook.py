"""Hook that counts NaN/Inf steps, restores batch-norm statistics, and stops at a limit."""

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from mmcrosscl.checkpoints import write_checkpoint
from mmcrosscl.engine.batches import data_samples
from mmcrosscl.engine.hooks.step_seed_hook import step_seed
from mmcrosscl.engine.unwrap import unwrap_model
from mmcrosscl.errors import NonFiniteError
from mmcrosscl.models.communication import start_read
from mmcrosscl.registry import HOOKS
from mmcrosscl.structures import ViewPairSample

from .running_statistics import RunningStatistics
from .updates import updates_now


class _Update(NamedTuple):
    """An update of the weights: iteration and epoch, batch, and whether it was skipped."""

    meta: dict
    batch: dict | None
    skipped: Callable[[], bool | Tensor]
    may_stop: bool


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Counts the updates that are skipped because of NaN/Inf, and stops training at a limit.

    :class:`FiniteOptimWrapper` and, in float16, MMEngine's ``AmpOptimWrapper`` skip an update with
    a NaN/Inf loss or gradient. This hook then restores the running statistics of batch norm, and
    the queue rejects NaN/Inf keys. A skipped update therefore changes no trained weight, and no
    checkpoint contains NaN/Inf. With other optimizer wrappers, the hook has no effect.

    The hook does not wait for the GPU in each iteration: it reads whether an update was skipped one
    update later. The update that reaches the limit is read immediately, so training stops in the
    same iteration.

    At the limit, each rank writes the batch of the first of these consecutive updates to the work
    dir: ``non_finite_iter_<n>_rank_<r>.pth`` for `mmcrosscl replay`, and a ``.json`` file with
    image paths, crops, regions and seeds. For a batch of a detector, the error message lists the
    image paths instead.

    Args:
        limit (int): Number of consecutive skipped updates at which training stops. In float16 with
            a dynamic loss scale, training stops only if the loss of a rank is NaN/Inf or the scale
            is at most 1, because an update is also skipped to reduce a scale that is too large.
            Defaults to 3.

    Raises:
        NonFiniteError: During training, at the limit.
    """

    # before hooks that average or replace the statistics, such as EMAHook with any priority in use
    priority = 'HIGH'

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit
        self.total = self.in_a_row = 0
        # whether the optimizer has updated the weights, for a GradScaler
        self._stepped = False
        self._handle: RemovableHandle | None = None
        self._between_updates = True
        self._first: tuple[dict, dict | None] | None = None
        self._unread: deque[_Update] = deque()

    def before_train(self, runner: Runner) -> None:
        self._statistics = RunningStatistics(unwrap_model(runner.model))
        if isinstance(runner.optim_wrapper, AmpOptimWrapper):
            optimizer = runner.optim_wrapper.optimizer
            self._handle = optimizer.register_step_post_hook(self._on_step)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        if self._between_updates:
            self._statistics.keep()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        # accumulated gradients are checked only in the iteration that updates the weights
        self._between_updates = updates_now(runner.optim_wrapper)
        if not self._between_updates:
            return
        skipped, may_stop = self._judge(runner.optim_wrapper, outputs or {})
        self._statistics.restore(skipped)
        meta = dict(iter=runner.iter, epoch=runner.epoch)
        if isinstance(skipped, bool):
            self._count(runner, _Update(meta, data_batch, lambda: skipped, may_stop))
            return
        self._unread.append(_Update(meta, data_batch, start_read(skipped), may_stop))
        # The GPU is not idle if the host waits for the update before the last one. Only an update
        # that can reach the limit is read immediately.
        while len(self._unread) > 1 or (self._unread and self.in_a_row + 1 >= self.limit):
            self._count(runner, self._unread.popleft())

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._count_unread(runner)

    def after_train(self, runner: Runner) -> None:
        self._count_unread(runner)
        self.restore_process_state(runner)
        if self.total:
            runner.logger.warning(f'{self.total} updates were skipped in total because of NaN/Inf.')

    def restore_process_state(self, runner: Runner) -> None:
        """Remove the hook of the optimizer. ResumableRunner also calls it after exceptions."""
        if self._handle is not None:
            self._handle.remove()

    def _on_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        # A GradScaler calls an optimizer only if all gradients are finite, but always calls a fused
        # optimizer, which reads `found_inf`.
        self._stepped = not getattr(optimizer, 'found_inf', False)

    def _judge(self, wrapper: OptimWrapper, outputs: dict) -> tuple[bool | Tensor, bool]:
        """Return whether the update was skipped, and whether training may stop because of it."""
        if not isinstance(wrapper, AmpOptimWrapper):
            skipped = getattr(wrapper, 'skipped', None)
            return False if skipped is None else skipped, True
        skipped, self._stepped = not self._stepped, False
        if not skipped:
            return False, False
        # Gradients are reduced over all ranks, so all ranks are here. Their losses differ.
        finite = torch.tensor(int(all(bool(x.isfinite().all()) for x in outputs.values())))
        all_reduce(finite, 'min')
        # MMEngine has no public attribute that tells a static scale from a dynamic one
        static = wrapper._scale_update_param is not None
        return True, static or not finite or wrapper.loss_scaler.get_scale() <= 1

    def _count_unread(self, runner: Runner) -> None:
        while self._unread:
            self._count(runner, self._unread.popleft())

    def _count(self, runner: Runner, update: '_Update') -> None:
        if not update.skipped():
            self.in_a_row, self._first = 0, None
            return
        self.total += 1
        self.in_a_row += 1
        if self._first is None:
            self._first = update.meta, update.batch
        runner.logger.warning(
            f'NaN/Inf loss or gradient in iteration {update.meta["iter"] + 1}: the update is '
            f'skipped ({self.in_a_row} consecutive, {self.total} in total).'
        )
        if update.may_stop and self.in_a_row >= self.limit:
            self._stop(runner, *self._first)

    def _stop(self, runner: Runner, meta: dict, batch: dict | None) -> NoReturn:
        samples = data_samples(batch)
        if (
            batch is not None
            and samples
            and all(isinstance(sample, ViewPairSample) for sample in samples)
        ):
            path = self._write(runner, meta, batch['inputs'], samples)
            hint = f'inspect the first of them with: mmcrosscl replay CONFIG {path}'
        else:
            images = [str(sample.get('img_path')) for sample in samples if 'img_path' in sample]
            hint = f'the first batch contains {", ".join(images) or "no image paths"}'
        raise NonFiniteError(
            f'losses or gradients were NaN/Inf in {self.in_a_row} consecutive steps; {hint}; '
            'fix the cause and rerun with --resume'
        )

    def _write(
        self, runner: Runner, meta: dict, inputs: object, batch: list[ViewPairSample]
    ) -> Path:
        iteration = meta['iter']
        path = Path(runner.work_dir, f'non_finite_iter_{iteration + 1}_rank_{runner.rank}.pth')
        samples = [sample.to_record() for sample in batch]
        meta.update(rank=runner.rank, seed=step_seed(runner.seed, iteration, runner.rank))
        state = unwrap_model(runner.model).state_dict()
        write_checkpoint(dict(meta=meta, state_dict=state, inputs=inputs, samples=samples), path)
        readable = dict(meta, samples=samples)
        path.with_suffix('.json').write_text(
            json.dumps(readable, indent=1, default=lambda tensor: tensor.tolist())
        )
        return path
