"""Runner that resumes exactly after preemption and failures of the machine."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.error import URLError

import torch
from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from mmcrosscl.checkpoints import atomic_write, model_input_format
from mmcrosscl.compat.fused_optimizer import without_unsupported_fused
from mmcrosscl.devices import check_device
from mmcrosscl.engine.hooks import PretrainedHook
from mmcrosscl.engine.unwrap import unwrap_model
from mmcrosscl.errors import UNUSABLE, InputError, RunError
from mmcrosscl.models import CrossCL
from mmcrosscl.quiet import quiet_output
from mmcrosscl.registry import HOOKS, RUNNERS, component_class

from .checkpoint_files import check_training_state, checkpoint_to_resume
from .data_loading import ADVICE, keep_alive_on_signals, restore_death_reports
from .defaults import DEFAULT_HOOKS
from .deferred_message_hub import DeferredMessageHub
from .file_errors import missing_file, unusable_file
from .initial_weights import check_initial_weights, checkpoints_of, not_downloaded
from .loops import resumable
from .process_groups import check_launcher, join_gloo, prepare_network
from .run_marker import RunMarker
from .safe_loading import checkpoint_loading
from .screen import show_on_screen
from .unknown_categories import no_images
from .unused_parameters import unused_parameters

# default hooks of MMEngine, which MMEngine removes if the value is None
MMENGINE_HOOKS = ('timer', 'logger', 'param_scheduler', 'checkpoint', 'sampler_seed')


@RUNNERS.register_module()
class ResumableRunner(Runner):
    """A ``Runner`` of MMEngine that resumes exactly and reads checkpoints safely.

    - Checkpoints are written atomically. ``resume=True`` loads the newest intact checkpoint in the
      work dir and resumes within the epoch.
    - If torchrun or Slurm restarts a run, it resumes from the newest checkpoint that it has saved.
    - No code in a checkpoint is run, whether MMEngine or a model loads the checkpoint, unless the
      config sets ``trust_checkpoints = True``.
    - ``default_hooks`` are merged with :data:`DEFAULT_HOOKS`. :class:`SafeCheckpointHook`,
      :class:`ResumableEpochLoop` and :class:`ResumableIterLoop` replace MMEngine's
      ``CheckpointHook`` and training loops.
    - Training scalars stay on the device until they are used; see :class:`DeferredMessageHub`.
    - Without a GPU, several processes communicate with gloo.

    The runner changes how the process loads checkpoints and handles signals. It restores the
    previous state when building, training or testing ends, also after an exception. The process
    group of several processes, and the environment variables that it is created from, remain.

    Args:
        **kwargs: Arguments of ``Runner``.

    Raises:
        InputError: If the work dir cannot be written to, or if the machine does not support a
            setting of the config.
    """

    def __init__(self, **kwargs) -> None:
        cfg = kwargs.get('cfg') or {}
        self._loading = partial(checkpoint_loading, cfg.get('trust_checkpoints', False))
        self._auto_resume = bool(kwargs.get('resume')) and kwargs.get('load_from') is None
        # set by train(): path to resume from, '' to start from scratch, None to let MMEngine decide
        self._resume_from: str | None = None
        self._loaded = self._resuming = False
        RunMarker(Path(kwargs['work_dir'])).end_earlier_run(kwargs.get('launcher', 'none'))
        if kwargs.get('experiment_name') is None:
            # MMEngine would share logger and message hub between runs that start in one second.
            stem = Path(getattr(cfg, 'filename', None) or 'run').stem
            kwargs['experiment_name'] = f'{stem}_{uuid.uuid4().hex[:8]}'
        try:
            with quiet_output(), self._loading():
                super().__init__(**kwargs)
        except URLError as error:
            raise not_downloaded(error) from error
        # MMEngine creates the work dir and the log file.
        except OSError as error:
            raise unusable_file(error, kwargs['work_dir']) from error

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment. Without a GPU, several processes form a gloo group.

        Raises:
            InputError: If the machine does not support the launcher, the precision or mmcv's ops.
        """
        check_launcher(self.launcher)
        check_device(self.optim_wrapper)
        if self.distributed:
            prepare_network(self.launcher)
        if self.distributed and not torch.cuda.is_available():
            join_gloo(env_cfg)
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model in DistributedDataParallel, also on the CPU."""
        find = self.cfg.get('find_unused_parameters', False)
        if self.distributed and model_wrapper_cfg is None and find and self._recomputes(model):
            # torch cannot search for unused parameters if activations are recomputed, but the
            # parameters that CrossCL uses are the same in each step
            if self.cfg.optim_wrapper.get('accumulative_counts', 1) > 1:
                raise InputError(
                    'several processes cannot use activation checkpointing and accumulative_counts '
                    'at the same time, if a loss term does not reach all layers; omit one of them'
                )
            model_wrapper_cfg = dict(
                broadcast_buffers=False, find_unused_parameters=False, static_graph=True
            )
        if self.distributed and not torch.cuda.is_available():
            cpu = dict(device_ids=None, broadcast_buffers=False, find_unused_parameters=find)
            model_wrapper_cfg = {**cpu, **(model_wrapper_cfg or {})}
        return super().wrap_model(model_wrapper_cfg, model)

    def _recomputes(self, model: nn.Module) -> bool:
        """Return whether the model is a CrossCL that uses activation checkpointing."""
        if not isinstance(model, CrossCL):
            return False
        checkpointed = any(getattr(module, 'with_cp', False) for module in model.modules())
        return checkpointed or bool(self.cfg.get('activation_checkpointing'))

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build the logger. The log file has all records, and the screen shows a part of them."""
        logger = super().build_logger(*args, **kwargs)
        show_on_screen(logger)
        return logger

    def build_message_hub(self, message_hub: dict | None = None) -> MessageHub:
        """Build a :class:`DeferredMessageHub`, which waits for the device only when it is read."""
        return DeferredMessageHub.get_instance(
            **{'name': self.experiment_name, **(message_hub or {})}
        )

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build the visualizer with a unique name, so that runs in one process do not share it."""
        if isinstance(visualizer, dict):
            visualizer = {**visualizer, 'name': self.experiment_name}
        return super().build_visualizer(visualizer)

    @master_only
    def dump_config(self) -> None:
        """Write the config to the folder of the log, and when training begins to the work dir.

        The config of a test would otherwise replace that of the training in the same work dir.
        """
        self.cfg.dump(Path(self.log_dir, Path(self.cfg.filename or f'{self.timestamp}.py').name))

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register :data:`DEFAULT_HOOKS`, merged with the default hooks of the config."""
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
        """Register a hook. :class:`SafeCheckpointHook` replaces MMEngine's ``CheckpointHook``."""
        if isinstance(hook, dict):
            if component_class(HOOKS, hook.get('type')) is CheckpointHook:
                hook = {**hook, 'type': 'mmcrosscl.SafeCheckpointHook'}
        super().register_hook(hook, priority)

    def build_optim_wrapper(
        self, optim_wrapper: OptimWrapper | OptimWrapperDict | dict
    ) -> OptimWrapper | OptimWrapperDict:
        """Build the optimizer wrapper, without ``fused`` if torch does not support it."""
        if isinstance(optim_wrapper, dict):
            device = next(self.model.parameters()).device
            optim_wrapper = without_unsupported_fused(optim_wrapper, device)
        return super().build_optim_wrapper(optim_wrapper)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop. Resumable loops replace MMEngine's loops."""
        return super().build_train_loop(resumable(loop) if isinstance(loop, dict) else loop)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args, **kwargs) -> DataLoader:
        """Build a data loader whose workers survive the signals that a preempted job receives.

        Raises:
            InputError: If no image of the dataset remains after ``filter_cfg``.
        """
        if isinstance(dataloader, DataLoader):
            return dataloader
        if dataloader.get('num_workers', 0) == 0:
            # torch rejects these settings if there are no workers
            refused = ('persistent_workers', 'timeout')
            dataloader = {key: x for key, x in dataloader.items() if key not in refused}
        if dataloader.get('pin_memory') and not torch.cuda.is_available():
            # without an accelerator, torch would ignore this setting and warn in each epoch
            dataloader = {**dataloader, 'pin_memory': False}
        try:
            loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        except ValueError as error:
            if (reason := no_images(error)) is None:
                raise
            raise reason from error
        loader.worker_init_fn = partial(keep_alive_on_signals, loader.worker_init_fn)
        return loader

    @quiet_output()
    def train(self) -> nn.Module:
        """Train.

        Raises:
            InputError: If initial weights cannot be loaded, if a file of the dataset is missing, if
                a disk is full, read-only or missing, if all checkpoints to resume from are damaged,
                or if several processes need find_unused_parameters=True.
            RunError: If a worker process died, or if no batch arrived in time.
            NonFiniteError: After several consecutive NaN/Inf steps.
            Preempted: After SIGTERM or SIGUSR1, once a checkpoint is saved.
        """
        try:
            with self._running():
                super().dump_config()
                self._resume_from = checkpoint_to_resume(self, self._auto_resume)
                self._check_initial_weights()
                return super().train()
        except RuntimeError as error:
            wrapper = 'model_wrapper_cfg.' if self.cfg.get('model_wrapper_cfg') else ''
            setting = f'{wrapper}find_unused_parameters'
            if (unused := unused_parameters(error, self.model, setting)) is not None:
                raise unused from error
            # torch raises this error when a worker of validation dies
            reason = str(error).splitlines()[0] if str(error) else ''
            if not reason.startswith('DataLoader '):
                raise
            raise RunError(f'data loading failed ({reason.rstrip(" .")}): {ADVICE}') from error

    def _check_initial_weights(self) -> None:
        for hook in self.hooks:
            if isinstance(hook, PretrainedHook):
                # the hook may replace an init_cfg by a random initialization
                hook.before_run(self)
        trust = self.cfg.get('trust_checkpoints', False)
        check_initial_weights(checkpoints_of(self.model), trust)

    @quiet_output()
    def val(self) -> dict:
        """Validate. See :meth:`test` for the errors."""
        with self._running():
            RunMarker(Path(self.work_dir)).restore_earlier_run()
            return super().val()

    @quiet_output()
    def test(self) -> dict:
        """Test.

        Raises:
            InputError: If a file of the dataset is missing, or results cannot be written.
        """
        with self._running():
            RunMarker(Path(self.work_dir)).restore_earlier_run()
            return super().test()

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Load checkpoints safely, convert file errors to InputErrors, and restore the process."""
        try:
            with self._loading():
                yield
        except FileNotFoundError as error:
            raise missing_file(error) from error
        except URLError as error:
            raise not_downloaded(error) from error
        except OSError as error:
            if error.errno not in UNUSABLE:
                raise
            raise unusable_file(error, self.work_dir) from error
        finally:
            restore_death_reports()
            self.call_hook('restore_process_state')

    @master_only
    def save_checkpoint(
        self, out_dir: str, filename: str, *args, meta: dict | None = None, **kwargs
    ) -> None:
        """Save a checkpoint atomically, with the normalization of the images as meta information.

        Raises:
            InputError: If the checkpoint cannot be written. An existing file is unchanged.
        """
        model = unwrap_model(self.model)
        if hasattr(model, 'backbone') and (read := model_input_format(model)) is not None:
            meta = {**(meta or {}), 'input_format': read.to_dict()}
        save = partial(super().save_checkpoint, meta=meta, **kwargs)
        if '://' in str(out_dir):
            save(out_dir, filename, *args)
        else:
            atomic_write(
                Path(out_dir, filename), lambda path: save(str(path.parent), path.name, *args)
            )

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Load a checkpoint. See :meth:`resume` for the errors."""
        checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        if self._resuming:
            check_training_state(checkpoint, filename)
        return checkpoint

    def resume(self, *args, **kwargs) -> None:
        """Resume from a checkpoint.

        Raises:
            InputError: If the checkpoint contains weights alone, or no state of the optimizer.
        """
        self._resuming = True
        try:
            super().resume(*args, **kwargs)
        finally:
            self._resuming = False

    def load_or_resume(self) -> None:
        """Resume from the checkpoint that :meth:`train` chose, or do what MMEngine does."""
        if self._loaded:
            return
        self._loaded = True
        start = self.cfg.get('new_run_load_from')
        if self._resume_from is not None:
            # EMAHook restores its state only in a run that resumes
            self._resume = bool(self._resume_from)
        if self._resume_from:
            self.resume(self._resume_from)
        elif self._resume_from is not None and start is not None:
            self.load_checkpoint(start)
        elif self._resume_from is None:
            super().load_or_resume()
