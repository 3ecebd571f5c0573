"""Hook that saves the position in the order of images and resumes from it."""

from collections.abc import Mapping
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.optim import _ParamScheduler
from mmengine.runner import Runner

from mmcrosscl.datasets import (
    SeededIndex,
    SeededInfiniteSampler,
    SeededSampler,
    UnlabeledDataset,
)
from mmcrosscl.datasets.samplers import ORDER
from mmcrosscl.engine.batches import batch_size, data_samples
from mmcrosscl.errors import InputError
from mmcrosscl.registry import HOOKS

from .loops import ResumableEpochLoop, ResumableIterLoop

# attributes of MMEngine's schedulers that depend on the number of iterations of an epoch
LENGTHS = (
    'begin', 'end', 'T_max', 'total_iters', 'total_steps', 'step_size', 'milestones', 'periods',
    'cumulative_periods', '_schedule_phases',
)  # fmt: skip
STEPS = ('last_step', '_global_step')


@HOOKS.register_module()
class ResumeHook(Hook):
    """Resumes at the saved position in the order of images, also on another number of processes.

    Checkpoints contain the number of processes, the batch size, the position in the order, and a
    digest of the images of an :class:`~mmcrosscl.datasets.UnlabeledDataset`. With
    :class:`~mmcrosscl.datasets.SeededSampler` or
    :class:`~mmcrosscl.datasets.SeededInfiniteSampler`, a resumed run uses the same images with the
    same random augmentation as an uninterrupted run. A warning says so if the images have changed.
    Checkpoints also contain the state of ``EarlyStoppingHook``, which MMEngine does not save.

    Raises:
        InputError: Before training, if the processes have found different images.
    """

    # runs before the hooks that read the seed or position of the sampler
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._loaded: dict | None = None
        self._unchecked = True

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        sampler, size = _order(runner)
        progress = dict(
            processes=runner.world_size,
            batch_size=size,
            epoch_length=len(runner.train_dataloader),
            seed=getattr(sampler, 'seed', None),
            position=None,
            images=_digest(runner),
            order=ORDER,
            early_stopping=[_state(hook) for hook in _early_stopping(runner)],
        )
        done = checkpoint['meta']['iter']
        if isinstance(sampler, SeededInfiniteSampler):
            progress['position'] = sampler.position(done * size)
        elif isinstance(runner.train_loop, ResumableIterLoop):
            progress['position'] = runner.train_loop.images_after(done)
        checkpoint['message_hub']['runtime_info']['progress'] = progress

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._loaded = checkpoint.get('message_hub', {}).get('runtime_info', {}).get('progress')
        if self._loaded is not None:
            _convert_schedules(runner, checkpoint, self._loaded['epoch_length'])

    def before_train(self, runner: Runner) -> None:
        _check_images(runner)
        # `load_from` also loads a checkpoint, but training then starts at iteration 0
        if runner.iter > 0:
            self._resume(runner)

    def _resume(self, runner: Runner) -> None:
        progress, self._loaded = self._loaded, None
        if progress is None:
            runner.logger.warning(
                'The checkpoint was not written by ResumableRunner. The order of images and the '
                'random augmentation therefore differ from an uninterrupted run.'
            )
            return
        sampler, size = _order(runner)
        loop, length = runner.train_loop, len(runner.train_dataloader)
        if progress['seed'] is not None and sampler is not None:
            sampler.seed = progress['seed']
        if isinstance(sampler, SeededInfiniteSampler) and progress['position'] is not None:
            sampler.origin = (loop.iter * size, progress['position'])
        elif isinstance(loop, ResumableIterLoop) and progress['position'] is not None:
            loop.origin = (loop.iter, progress['position'])
        for hook, state in zip(_early_stopping(runner), progress.get('early_stopping', [])):
            vars(hook).update(state)
            limit = hook.stopping_threshold
            reached = limit is not None and hook.rule_map[hook.rule](hook.best_score, limit)
            if hook.wait_count >= hook.patience or reached:
                loop.stop_training = True
        seeded = isinstance(sampler, SeededSampler | SeededInfiniteSampler) and sampler.shuffle
        if seeded and progress.get('order') != ORDER:
            runner.logger.warning(
                'The checkpoint was written by an earlier release, whose order of images differs. '
                'The current epoch can therefore repeat some images and omit others.'
            )
        elif seeded and progress['images'] != _digest(runner):
            runner.logger.warning(
                f'The images have changed since the checkpoint was written. There are now '
                f'{len(runner.train_dataloader.dataset):,} images. The order of images therefore '
                'differs from an uninterrupted run.'
            )
        before = (progress['processes'], progress['batch_size'])
        now = (runner.world_size, size)
        if isinstance(loop, ResumableEpochLoop) and (before, progress['epoch_length']) != (
            now,
            length,
        ):
            seen = (loop.iter - loop.epoch * progress['epoch_length']) * before[0] * before[1]
            loop.start_at(loop.epoch * length + min(seen // (now[0] * now[1]), length))
            runner.optim_wrapper.initialize_count_status(runner.model, loop.iter, loop.max_iters)
        if before != now:
            runner.logger.warning(
                f'The checkpoint was saved by {before[0]} processes with {before[1]} images each, '
                f'but this run has {now[0]} processes with {now[1]} images each. An iteration now '
                f'uses {now[0] * now[1]} images instead of {before[0] * before[1]}. Batches, batch '
                'statistics and negatives therefore differ from here on, and the current epoch may '
                'repeat up to one batch of images. The learning rate of the checkpoint is kept, '
                'also with --auto-scale-lr.'
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        if self._unchecked:
            self._unchecked = False
            self._check_seeds(runner, data_batch)

    def _check_seeds(self, runner: Runner, data_batch: object) -> None:
        """Warn if a wrapper of the dataset dropped the seed that the sampler's indices carry."""
        sampler, _ = _order(runner)
        samples = data_samples(data_batch)
        if not isinstance(sampler, SeededSampler | SeededInfiniteSampler) or not samples:
            return
        index = samples[0].get('sample_idx')
        if index is not None and not isinstance(index, SeededIndex):
            runner.logger.warning(
                f'{type(runner.train_dataloader.dataset).__name__} converts the indices of '
                f'{type(sampler).__name__} to plain integers. The random augmentation is not '
                'seeded, and a resumed run differs from an uninterrupted run. Change the wrapper '
                'so that it passes `index.at(other_index)` to the wrapped dataset.'
            )


def _early_stopping(runner: Runner) -> list[EarlyStoppingHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


def _state(hook: EarlyStoppingHook) -> dict:
    return dict(wait_count=hook.wait_count, best_score=float(hook.best_score))


def _convert_schedules(runner: Runner, checkpoint: dict, epoch_length: int) -> None:
    """Adapt schedules that count the iterations of an epoch to another number of them.

    MMEngine would otherwise take the length of the schedule from the checkpoint.
    """
    states, schedulers = checkpoint.get('param_schedulers'), runner.param_schedulers
    settings = runner.cfg.get('param_scheduler')
    settings = settings if isinstance(settings, list) else [settings]
    # a test has no schedulers, and several optimizers have a dict of them
    if not (isinstance(states, list) and isinstance(schedulers, list)):
        return
    for state, scheduler, setting in zip(states, schedulers, settings):
        converted = isinstance(setting, Mapping) and setting.get('convert_to_iter_based')
        if not converted or not isinstance(scheduler, _ParamScheduler):
            continue
        ratio = len(runner.train_dataloader) / epoch_length
        if ratio != 1:
            new = scheduler.state_dict()
            state.update({name: new[name] for name in LENGTHS if name in new})
            state.update({name: round(state[name] * ratio) for name in STEPS})


def _digest(runner: Runner) -> str | None:
    """Return the digest of all images, or None for other datasets and for wrappers."""
    dataset = runner.train_dataloader.dataset
    return dataset.index.digest if isinstance(dataset, UnlabeledDataset) else None


def _check_images(runner: Runner) -> None:
    """Raise an error if the machines of a run have different files."""
    digests = all_gather_object((_digest(runner), len(runner.train_dataloader.dataset)))
    for rank, (digest, images) in enumerate(digests):
        if digest != digests[0][0]:
            raise InputError(
                f'process {rank} found {images:,} images and process 0 found {digests[0][1]:,}, or '
                'their names differ; copy the same files to all machines'
            )


def _order(runner: Runner) -> tuple[Any, int]:
    """Return the sampler of the training images or None, and the batch size per process."""
    loader = runner.train_dataloader
    return getattr(loader.batch_sampler, 'sampler', None), batch_size(loader)
