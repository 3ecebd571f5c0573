"""MMEngine's runner, for runs that survive failures of the machine and resume exactly."""

import errno
import os
import uuid
from functools import partial
from pathlib import Path

import torch
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process, master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.errors import InputError, RunError
from mmcrosscl.registry import HOOKS, RUNNERS, component_class

from .checkpoint_files import RunMarker, checkpoint_place, list_checkpoints, newest_intact
from .data_loading import ADVICE, absorb_deaths, keep_alive_on_signals
from .defaults import DEFAULT_HOOKS
from .devices import check_device, check_launcher, join_gloo
from .loops import resumable
from .safe_loading import checkpoint_loading

# hooks that MMEngine has by default; it takes None for them, which removes them
MMENGINE_HOOKS = ('timer', 'logger', 'param_scheduler', 'checkpoint', 'sampler_seed')
# a full disk, a read-only or forbidden folder, a file system that is gone
UNUSABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.ESTALE, errno.ENOTDIR, errno.ENOTCONN, errno.ENODEV,
)  # fmt: skip


@RUNNERS.register_module()
class ResumableRunner(Runner):
    """MMEngine's ``Runner``, which resumes exactly and reads checkpoints safely.

    - Checkpoints are written atomically. ``resume=True`` takes the newest intact one of the work
      dir and resumes within the epoch.
    - A run that torchrun or Slurm restarts resumes from the newest checkpoint that it saved itself.
    - No code in a checkpoint is run, wherever MMEngine or a model loads one, unless the config
      says ``trust_checkpoints = True``.
    - ``default_hooks`` are merged with :data:`DEFAULT_HOOKS`. MMEngine's ``CheckpointHook`` and
      training loops are replaced by :class:`SafeCheckpointHook`, :class:`ResumableEpochLoop` and
      :class:`ResumableIterLoop`.
    - Without a GPU, several processes communicate over gloo.

    What it changes in the process (how checkpoints load, signal handlers) is restored when
    building, training or testing ends, also by an exception.

    Args:
        **kwargs: Those of ``Runner``.

    Raises:
        InputError: If the work dir cannot be written to, or the machine lacks what the config
            needs.
    """

    def __init__(self, **kwargs) -> None:
        cfg = kwargs.get('cfg') or {}
        self._loading = partial(checkpoint_loading, cfg.get('trust_checkpoints', False))
        self._auto_resume = bool(kwargs.get('resume')) and kwargs.get('load_from') is None
        # set by train(): a checkpoint, or '' where training starts from scratch
        self._resume_from: str | None = None
        self._loaded = False
        if kwargs.get('experiment_name') is None:
            # MMEngine shares logger and message hub between runs that began in the same second.
            stem = Path(getattr(cfg, 'filename', None) or 'run').stem
            kwargs['experiment_name'] = f'{stem}_{uuid.uuid4().hex[:8]}'
        try:
            with self._loading():
                super().__init__(**kwargs)
        # MMEngine makes the work dir and opens the log.
        except OSError as error:
            raise _unwritable(error, kwargs['work_dir']) from error

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment; without a GPU, several processes form a gloo group.

        Raises:
            InputError: If the launcher, the precision or mmcv's ops do not fit the machine.
        """
        check_launcher(self.launcher)
        check_device(self.optim_wrapper)
        if self.distributed and not torch.cuda.is_available():
            join_gloo(self.launcher, env_cfg)
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model in DistributedDataParallel, on the CPU too."""
        if self.distributed and not torch.cuda.is_available():
            find = self.cfg.get('find_unused_parameters', False)
            cpu = dict(device_ids=None, broadcast_buffers=False, find_unused_parameters=find)
            model_wrapper_cfg = {**cpu, **(model_wrapper_cfg or {})}
        return super().wrap_model(model_wrapper_cfg, model)

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build the visualizer under a name of its own, so that runs of a process share none."""
        if isinstance(visualizer, dict):
            visualizer = {**visualizer, 'name': self.experiment_name}
        return super().build_visualizer(visualizer)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register :data:`DEFAULT_HOOKS`, changed by those of the config."""
        merged = dict(DEFAULT_HOOKS)
        for name, hook in (hooks or {}).items():
            if isinstance(hook, dict) and 'type' not in hook and name in merged:
                hook = {**merged[name], **hook}
            merged[name] = hook
        super().register_default_hooks(
            {
                name: hook
                for name, hook in merged.items()
                if hook is not None or name in MMENGINE_HOOKS
            }
        )

    def register_hook(self, hook: Hook | dict, priority: str | int | None = None) -> None:
        """Register a hook; MMEngine's ``CheckpointHook`` becomes :class:`SafeCheckpointHook`."""
        if isinstance(hook, dict):
            if component_class(HOOKS, hook.get('type')) is CheckpointHook:
                hook = {**hook, 'type': 'mmcrosscl.SafeCheckpointHook'}
        super().register_hook(hook, priority)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop; MMEngine's become those that resume."""
        return super().build_train_loop(resumable(loop) if isinstance(loop, dict) else loop)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args, **kwargs) -> DataLoader:
        """Build a loader whose workers survive the signals that a preempted job gets."""
        if isinstance(dataloader, DataLoader):
            return dataloader
        if dataloader.get('num_workers', 0) == 0:
            # torch refuses these without workers
            refused = ('persistent_workers', 'timeout')
            dataloader = {key: x for key, x in dataloader.items() if key not in refused}
        loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        loader.worker_init_fn = partial(keep_alive_on_signals, loader.worker_init_fn)
        return loader

    def train(self) -> nn.Module:
        """Train.

        Raises:
            InputError: If a disk is full, read-only or gone, or none of the checkpoints to resume
                from is intact.
            RunError: If a worker process died, or no batch arrived in time.
            NonFiniteError: After several consecutive NaN/Inf steps.
            Preempted: After a signal, once a checkpoint is saved.
        """
        try:
            with self._loading():
                self._resume_from = self._checkpoint_to_resume()
                return super().train()
        except OSError as error:
            if error.errno not in UNUSABLE:
                raise
            raise _unwritable(error, self.work_dir) from error
        except RuntimeError as error:
            # torch raises at the death of a worker, wherever the main thread happens to be
            reason = str(error).splitlines()[0] if str(error) else ''
            if not reason.startswith('DataLoader '):
                raise
            absorb_deaths()
            raise RunError(f'data loading failed ({reason.rstrip(" .")}): {ADVICE}') from error
        finally:
            self.call_hook('restore_process_state')

    def val(self) -> dict:
        """Validate; checkpoints are loaded safely."""
        with self._loading():
            return super().val()

    def test(self) -> dict:
        """Test; checkpoints are loaded safely."""
        with self._loading():
            return super().test()

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """Save a checkpoint atomically.

        Raises:
            InputError: If it cannot be written; the file that was there stays.
        """
        save = partial(super().save_checkpoint, **kwargs)
        if '://' in str(out_dir):
            save(out_dir, filename, *args)
        else:
            atomic_write(
                Path(out_dir, filename), lambda path: save(str(path.parent), path.name, *args)
            )

    def load_or_resume(self) -> None:
        """Resume from the checkpoint that :meth:`train` chose, else do as MMEngine does."""
        if self._loaded:
            return
        self._loaded = True
        if self._resume_from:
            self.resume(self._resume_from)
        elif self._resume_from is None:
            super().load_or_resume()

    def _checkpoint_to_resume(self) -> str | None:
        """Return what to resume from, '' for a start from scratch, None where MMEngine decides."""
        marker = RunMarker(Path(self.work_dir))
        # Each machine's launcher counts its own restarts.
        restarted = torch.tensor(int(marker.restarted()))
        all_reduce(restarted, 'max')
        # The main process decides: the others may not see its disk.
        found: list[str | InputError | None] = [None]
        if is_main_process():
            try:
                found = [self._find_checkpoint(marker, bool(restarted))]
            except InputError as error:
                found = [error]
        broadcast_object_list(found)
        if isinstance(found[0], InputError):
            raise found[0]
        return found[0]

    def _find_checkpoint(self, marker: RunMarker, restarted: bool) -> str | None:
        checkpoints = list_checkpoints(Path(self.work_dir), *checkpoint_place(self))
        found = None
        if restarted:
            found = newest_intact(marker.of_this_run(checkpoints), self.logger)
        else:
            marker.begin(checkpoints)
        if found is not None:
            return str(found)
        if not self._auto_resume:
            return None
        found = newest_intact(checkpoints, self.logger)
        if found is None:
            self.logger.warning(
                f'No checkpoint in {self.work_dir} to resume from; training starts from scratch.'
            )
        return str(found or '')


def _unwritable(error: OSError, place: str) -> InputError:
    where = os.fsdecode(error.filename or place)
    return InputError(
        f'cannot write {where}: {error.strerror or error}; make room or fix that, or '
        'choose another --work-dir'
    )
