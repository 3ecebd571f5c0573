"""Counts NaN/Inf steps, restores what they touched, and stops after several of them."""

import json
import math
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from mmcrosscl.checkpoints import write_checkpoint
from mmcrosscl.engine.hooks.step_seed_hook import step_seed
from mmcrosscl.errors import NonFiniteError
from mmcrosscl.registry import HOOKS
from mmcrosscl.structures import ViewPairSample


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Count the updates that are skipped for a NaN/Inf loss or gradient, and stop at a limit.

    :class:`FiniteOptimWrapper` and, in float16, MMEngine's ``AmpOptimWrapper`` skip the update.
    This hook restores the running statistics of batch norm, and the queue takes no NaN/Inf key.
    The weights therefore stay as they were, and no checkpoint contains NaN/Inf.

    At the limit, each rank writes the first batch of the series to the work dir:
    ``non_finite_iter_<n>_rank_<r>.pth`` for `mmcrosscl replay`, and a ``.json`` file with image
    paths, crops, regions and seeds. For a detector's batch the message names the paths instead.
    With other optimizer wrappers the hook does nothing.

    Args:
        limit (int): Consecutive skipped updates that end training. In float16 they do so only if
            the loss itself is NaN/Inf or its scale is down to 1, since skipped updates are how too
            large a scale is reduced. Defaults to 3.

    Raises:
        NonFiniteError: In training, at the limit.
    """

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit
        self.total = self.in_a_row = 0
        self._scale = math.inf
        self._between_updates = True
        self._first: tuple[dict, dict] | None = None

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        # the norms with running statistics, whatever their class
        norms = [m for m in model.modules() if isinstance(getattr(m, 'running_mean', None), Tensor)]
        self._statistics: list[Tensor] = [b for norm in norms for b in norm.buffers(recurse=False)]
        self._before = [buffer.clone() for buffer in self._statistics]

    @torch.no_grad()
    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        if self._statistics and self._between_updates:
            torch._foreach_copy_(self._before, self._statistics)

    @torch.no_grad()
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        # gradients that are still being added up are judged with the update
        self._between_updates = runner.optim_wrapper.should_update()
        if not self._between_updates:
            return
        skipped, hopeless = self._judge(runner.optim_wrapper, outputs or {})
        if not skipped:
            self.in_a_row, self._first = 0, None
            return
        if self._statistics:
            torch._foreach_copy_(self._statistics, self._before)
        self.total += 1
        self.in_a_row += 1
        if self._first is None:
            self._first = dict(iter=runner.iter, epoch=runner.epoch), data_batch
        runner.logger.warning(
            f'NaN/Inf loss or gradient in iteration {runner.iter + 1}: the update is skipped, '
            f'{self.in_a_row} consecutive, {self.total} in total.'
        )
        if hopeless and self.in_a_row >= self.limit:
            meta, batch = self._first
            samples = list(batch.get('data_samples') or []) if isinstance(batch, dict) else []
            if samples and all(isinstance(sample, ViewPairSample) for sample in samples):
                path = self._write(runner, meta, batch['inputs'], samples)
                look = f'inspect it with: mmcrosscl replay CONFIG {path}'
            else:
                images = [str(sample.get('img_path')) for sample in samples if 'img_path' in sample]
                look = f'the first batch was {", ".join(images) or "one without paths"}'
            raise NonFiniteError(
                f'losses or gradients were NaN/Inf in {self.in_a_row} consecutive steps; {look}; '
                'fix the cause and rerun with --resume'
            )

    def after_train(self, runner: Runner) -> None:
        if self.total:
            runner.logger.warning(f'{self.total} updates were skipped in total; see above.')

    def _judge(self, wrapper: OptimWrapper, outputs: dict) -> tuple[bool, bool]:
        """Return whether the update was skipped, and whether the next one will be too."""
        if not isinstance(wrapper, AmpOptimWrapper):
            return getattr(wrapper, 'skipped', False), True
        scale = wrapper.loss_scaler.get_scale()
        skipped, self._scale = scale < self._scale < math.inf, scale
        finite = all(bool(value.isfinite().all()) for value in outputs.values())
        return skipped, not finite or scale <= 1

    def _write(
        self, runner: Runner, meta: dict, inputs: object, batch: list[ViewPairSample]
    ) -> Path:
        iteration = meta['iter']
        path = Path(runner.work_dir, f'non_finite_iter_{iteration + 1}_rank_{runner.rank}.pth')
        model = runner.model
        samples = [sample.to_record() for sample in batch]
        meta.update(rank=runner.rank, seed=step_seed(runner.seed, iteration, runner.rank))
        state = (model.module if is_model_wrapper(model) else model).state_dict()
        write_checkpoint(dict(meta=meta, state_dict=state, inputs=inputs, samples=samples), path)
        readable = dict(meta, samples=samples)
        path.with_suffix('.json').write_text(
            json.dumps(readable, indent=1, default=lambda tensor: tensor.tolist())
        )
        return path
