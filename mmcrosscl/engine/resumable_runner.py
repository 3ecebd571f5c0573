"""MMEngine's runner, for runs that must survive what happens to machines."""

import errno
import os
import signal
import threading
from functools import partial
from pathlib import Path

from mmengine import fileio
from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.runner import BaseLoop, CheckpointLoader, EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader, Sampler

from mmcrosscl.checkpoints import atomic_write, read_checkpoint, verify_checksums
from mmcrosscl.datasets import SeededInfiniteSampler
from mmcrosscl.errors import DamagedCheckpointError, InputError, RunError
from mmcrosscl.registry import RUNNERS

from .safe_checkpoint_hook import SafeCheckpointHook
from .watched_loader import WatchedLoader

DEFAULT_HOOKS = dict(
    checkpoint=dict(type='mmcrosscl.SafeCheckpointHook', interval=1),
    step_seed=dict(type='mmcrosscl.StepSeedHook'),
    preemption=dict(type='mmcrosscl.PreemptionHook'),
    non_finite=dict(type='mmcrosscl.NonFiniteHook'),
)
# how often torchrun and Slurm have started this run again
RESTARTS = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')
# a full disk, a read-only or forbidden place, a file system that is gone
UNUSABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.ESTALE, errno.ENOTDIR, errno.ENOTCONN, errno.ENODEV,
)  # fmt: skip


@RUNNERS.register_module()
class ResumableRunner(Runner):
    """Trains like MMEngine's ``Runner`` and loses nothing.

    - Checkpoints are written whole or not at all; `--resume` takes the newest whole one and goes on
      within the epoch. With an order of places (:class:`~mmcrosscl.datasets.SeededSampler`) the
      run is then the one that was not interrupted.
    - A run that torchrun or Slurm starts again does so too, whatever it began from.
    - No code in a checkpoint is run, wherever MMEngine or a model of it loads one, unless the
      config says ``trust_checkpoints = True``. That holds for the process from then on.
    - ``default_hooks`` has ``step_seed``, ``preemption`` and ``non_finite`` beside MMEngine's own;
      as with those, None takes one out. ``CheckpointHook`` there means
      :class:`SafeCheckpointHook`, and an ``EpochBasedTrainLoop`` is :class:`ResumableEpochLoop`.

    Args:
        **kwargs: Those of ``Runner``.

    Raises:
        InputError: If the work dir cannot be written to.
    """

    def __init__(self, **kwargs) -> None:
        _read_checkpoints(trust=(kwargs.get('cfg') or {}).get('trust_checkpoints', False))
        try:
            # makes the work dir and opens the log
            super().__init__(**kwargs)
        except OSError as error:
            raise _explained(error, kwargs['work_dir']) from error

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register MMEngine's default hooks and those of this runner."""
        hooks = {**DEFAULT_HOOKS, **(hooks or {})}
        checkpoint = hooks['checkpoint']
        if isinstance(checkpoint, dict) and checkpoint.get('type') == 'CheckpointHook':
            hooks['checkpoint'] = {**checkpoint, 'type': DEFAULT_HOOKS['checkpoint']['type']}
        ours = DEFAULT_HOOKS.keys() - {'checkpoint'}
        super().register_default_hooks(
            {name: hook for name, hook in hooks.items() if hook is not None or name not in ours}
        )

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop; epochs are those that can be gone on with."""
        by_epoch = isinstance(loop, dict) and (
            loop.get('type') == 'EpochBasedTrainLoop' or loop.get('by_epoch')
        )
        if by_epoch:
            settings = {name: value for name, value in loop.items() if name != 'by_epoch'}
            loop = {**settings, 'type': 'mmcrosscl.ResumableEpochLoop'}
        return super().build_train_loop(loop)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args, **kwargs) -> DataLoader:
        """Build a :class:`WatchedLoader`; its workers outlive what a preempted job is signalled."""
        if isinstance(dataloader, DataLoader):
            return dataloader
        loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
        # MMEngine lets no other class be named
        loader.__class__ = WatchedLoader
        return loader

    def train(self) -> nn.Module:
        """Train.

        Raises:
            InputError: If a disk is full, read-only or gone, or there are checkpoints to resume
                from and none is whole.
            RunError: If a worker process died or gave no images in time.
        """
        if any(int(os.environ.get(name, 0)) for name in RESTARTS):
            newest = self._newest_whole()
            if newest is not None:
                self._resume, self._load_from = True, newest
        try:
            return super().train()
        except OSError as error:
            if error.errno not in UNUSABLE:
                raise
            raise _explained(error, self.work_dir) from error
        except RuntimeError as error:
            reason = str(error).splitlines()[0] if str(error) else ''
            if not reason.startswith('DataLoader '):
                raise
            raise RunError(
                f'the images ceased to come ({reason.rstrip(".")}): a worker process was killed, '
                'as for want of memory, or a file system is gone; lower '
                'train_dataloader.num_workers or mend that, and go on with --resume'
            ) from error

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """MMEngine's, and where in the order of images the run is; whole or not at all.

        Raises:
            InputError: If it cannot be written; what was there is as it was.
        """
        sampler, batch_size = self._order()
        iteration = (kwargs.get('meta') or {}).get('iter', self.iter)
        progress = dict(
            processes=self.world_size,
            batch_size=batch_size,
            epoch_length=len(self.train_dataloader),
            seed=getattr(sampler, 'seed', None),
            position=None,
        )
        if isinstance(sampler, SeededInfiniteSampler):
            progress['position'] = sampler.position(iteration * batch_size)
        self.message_hub.update_info('progress', progress)
        save = partial(super().save_checkpoint, **kwargs)
        if '://' in str(out_dir):
            save(out_dir, filename, *args)
        else:
            atomic_write(
                Path(out_dir, filename),
                lambda path: save(str(path.parent), path.name, *args),
            )

    def load_or_resume(self) -> None:
        """Load or resume; a resume without a name takes the newest checkpoint that is whole.

        Raises:
            InputError: If there are checkpoints and none is whole.
        """
        if self._resume and self._load_from is None and not self._has_loaded:
            self._load_from = self._newest_whole()
            if self._load_from is None:
                self.logger.info(f'No checkpoint in {self.work_dir}; training starts anew.')
                return
        super().load_or_resume()

    def _newest_whole(self) -> str | None:
        """What the main process finds; the other ones may not see its disk yet."""
        found: list[str | InputError | None] = [None]
        if is_main_process():
            try:
                found = [self._look_for_whole()]
            except InputError as error:
                found = [error]
        broadcast_object_list(found)
        if isinstance(found[0], InputError):
            raise found[0]
        return found[0]

    def _look_for_whole(self) -> str | None:
        hook = next((h for h in self.hooks if isinstance(h, SafeCheckpointHook)), None)
        candidates = hook.written(self) if hook else []
        for path in candidates:
            try:
                verify_checksums(path)
                return str(path)
            except DamagedCheckpointError as error:
                self.logger.warning(f'{error}. The checkpoint before it is used.')
        if candidates:
            raise InputError(
                f'none of the {len(candidates)} checkpoints in {candidates[0].parent} is whole; '
                'copy a sound one there, or train anew in another --work-dir'
            )
        return None

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Resume, also on another number of processes, and in the place in the order of images."""
        super().resume(filename, *args, **kwargs)
        progress = self.message_hub.get_info('progress')
        if progress is None:
            self.logger.warning(
                f'{filename} was written by another runner: what is drawn from here on is not what '
                'that one would have drawn.'
            )
            return
        sampler, batch_size = self._order()
        loop, length = self.train_loop, len(self.train_dataloader)
        if progress['seed'] is not None and sampler is not None:
            sampler.seed = progress['seed']
        if isinstance(sampler, SeededInfiniteSampler) and progress['position'] is not None:
            sampler.origin = (loop.iter * batch_size, progress['position'])
        before = (progress['processes'], progress['batch_size'])
        now = (self.world_size, batch_size)
        if isinstance(loop, EpochBasedTrainLoop) and (before, progress['epoch_length']) != (
            now,
            length,
        ):
            seen = (loop.iter - loop.epoch * progress['epoch_length']) * before[0] * before[1]
            loop._iter = loop.epoch * length + min(seen // (now[0] * now[1]), length)
        if before != now:
            self.logger.warning(
                f'{filename} is from {before[0]} processes of {before[1]} images, and this is a '
                f'run of {now[0]} of {now[1]}: {now[0] * now[1]} images a step instead of '
                f'{before[0] * before[1]}. Batches, their statistics and their negatives differ '
                'from here on, and an epoch that was begun may show one batch of images again. '
                'The learning rate is that of the checkpoint, --auto-scale-lr or not.'
            )

    def _order(self) -> tuple[Sampler | None, int]:
        """The sampler of the training images, and how many a process takes at a time."""
        batches = self.train_dataloader.batch_sampler
        return getattr(batches, 'sampler', None), getattr(batches, 'batch_size', 1)


def _read_checkpoints(trust: bool) -> None:
    """How this process loads checkpoints from now on, by MMEngine's loader or by torch's."""
    # whatever a caller asks of torch.load; MMEngine falls back to unpickling
    if trust:
        os.environ.pop('TORCH_FORCE_WEIGHTS_ONLY_LOAD', None)
    else:
        os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'

    def load_from_file(filename: str, map_location: object = None) -> dict:
        with fileio.get_local_path(os.path.expanduser(filename)) as path:
            checkpoint = read_checkpoint(path, trust)
        if not trust and isinstance(checkpoint.get('meta'), dict):
            # on a resume MMEngine would run this text as Python
            checkpoint['meta'].pop('config', None)
        return checkpoint

    stores = ['', r'(\S+\:)?s3://', r'(\S+\:)?petrel://']
    CheckpointLoader.register_scheme(stores, load_from_file, force=True)


def _explained(error: OSError, place: str) -> InputError:
    where = error.filename or place
    return InputError(
        f'cannot write {os.fsdecode(where)}: {error.strerror or error}; make room or mend that, or '
        'choose another --work-dir'
    )


def _start_worker(init, worker_id: int) -> None:
    if init is not None:
        init(worker_id)
    # Clusters signal all processes of a job, and the main one still wants a batch or two: only the
    # parent's word counts.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_heed_parent, daemon=True).start()


def _heed_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
