"""What is done when the numbers go wrong."""

import json
import math
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmcrosscl.checkpoints import write_checkpoint
from mmcrosscl.errors import RunError
from mmcrosscl.registry import HOOKS

from .step_seed_hook import step_seed


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Count the updates left out for a loss or gradient that is not finite; stop after a few.

    :class:`FiniteOptimWrapper` and, in float16, MMEngine's ``AmpOptimWrapper`` leave them out.
    Here the step's other trace goes, the running statistics of batch norm; the queue takes no such
    key. So the weights stay as they were, and no checkpoint is spoilt.

    On stopping, the first batch of the row is written beside the checkpoints, from each rank, as
    ``non_finite_iter_<n>_rank_<r>.pth`` for `tools/replay.py` and as ``.json`` for the reader:
    image paths, crops, regions and seeds. Of a detector's batch only the paths are told.
    With any other optimizer wrapper the hook does nothing.

    Args:
        limit (int): How many in a row end training; in float16, only where the loss is not finite
            or its scale is down to 1, as too large a scale is put right by such steps.
            Defaults to 3.

    Raises:
        RunError: In training, at the limit.
    """

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit
        self.total = self.in_a_row = 0
        self._scale = math.inf
        self._between_updates = True
        self._first: tuple[dict, dict] | None = None

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        norms = [module for module in model.modules() if isinstance(module, _NormBase)]
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
            f'A loss or gradient of iteration {runner.iter + 1} is not finite: its update is left '
            f'out, {self.in_a_row} in a row, {self.total} in all.'
        )
        if hopeless and self.in_a_row >= self.limit:
            meta, batch = self._first
            samples = list(batch.get('data_samples') or []) if isinstance(batch, dict) else []
            if samples and all('crops' in sample for sample in samples):
                path = self._write(runner, meta, batch['inputs'], samples)
                look = f'look into it with tools/replay.py CONFIG {path}'
            else:
                images = [str(sample.get('img_path')) for sample in samples if 'img_path' in sample]
                look = f'the first batch was {", ".join(images) or "one without paths"}'
            raise RunError(
                f'losses or gradients were not finite {self.in_a_row} times in a row; {look}; go '
                'on with --resume once it is mended'
            )

    def after_train(self, runner: Runner) -> None:
        if self.total:
            runner.logger.warning(f'{self.total} updates were left out in all; see above.')

    def _judge(self, wrapper: OptimWrapper, outputs: dict) -> tuple[bool, bool]:
        """Whether the update was left out, and whether it will be again."""
        if not isinstance(wrapper, AmpOptimWrapper):
            return getattr(wrapper, 'skipped', False), True
        scale = wrapper.loss_scaler.get_scale()
        skipped, self._scale = scale < self._scale < math.inf, scale
        finite = all(bool(value.isfinite().all()) for value in outputs.values())
        return skipped, not finite or scale <= 1

    def _write(self, runner: Runner, meta: dict, inputs: object, batch: list) -> Path:
        iteration = meta['iter']
        path = Path(runner.work_dir, f'non_finite_iter_{iteration + 1}_rank_{runner.rank}.pth')
        model: nn.Module = runner.model
        samples = [
            {name: _plain(value) for name, value in [*s.metainfo_items(), *s.items()]}
            for s in batch
        ]
        meta.update(rank=runner.rank, seed=step_seed(runner.seed, iteration, runner.rank))
        state = (model.module if is_model_wrapper(model) else model).state_dict()
        write_checkpoint(dict(meta=meta, state_dict=state, inputs=inputs, samples=samples), path)
        readable = dict(meta, samples=samples)
        path.with_suffix('.json').write_text(
            json.dumps(readable, indent=1, default=lambda tensor: tensor.tolist())
        )
        return path


def _plain(value: object) -> object:
    """What a checkpoint may hold: numbers, text, lists, tensors."""
    if hasattr(value, 'seed_generators'):
        return dict(index=int(value), seed=value.seed, epoch=value.epoch, position=value.position)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return torch.from_numpy(value) if hasattr(value, '__array__') else value
