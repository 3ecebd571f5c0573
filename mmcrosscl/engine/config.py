"""Functions that load a config and build a runner from it."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmcrosscl.errors import InputError
from mmcrosscl.registry import HOOKS, component_class

from .hooks import PretrainedHook
from .options import merge_options
from .sources import pretrained_setting


def load_config(
    config: str | Path,
    *,
    work_dir: str | Path | None = None,
    options: Mapping[str, object] | None = None,
    launcher: str = 'none',
    resume: bool | str | Path = False,
    amp: bool = False,
    auto_scale_lr: bool = False,
    trust_checkpoints: bool = False,
) -> Config:
    """Load a config file and apply the keyword arguments to it.

    Args:
        config (str | Path): Path of a config file, or ``PACKAGE::CONFIG`` for a config in an
            installed package, such as ``mmcrosscl::crosscl/r50_8xb32.py``.
        work_dir (str | Path, optional): Folder for results. Defaults to the config's ``work_dir``,
            or to ``work_dirs/<name of the config>`` if the config does not set ``work_dir``.
        options (Mapping, optional): Settings to override. The keys are dotted names such as
            ``'train_dataloader.batch_size'``; see :func:`merge_options`.
        launcher (str): Program that started the processes: 'none', 'pytorch' or 'slurm'.
            Defaults to 'none'.
        resume (bool | str | Path): True resumes from the newest checkpoint in the work dir. A path
            resumes from the checkpoint at this path. Defaults to False.
        amp (bool): Train in float16 with loss scaling. Defaults to False.
        auto_scale_lr (bool): Multiply the learning rate by the total batch size divided by the
            config's ``auto_scale_lr.base_batch_size``. Defaults to False.
        trust_checkpoints (bool): Unpickle all objects in checkpoints. This runs any code in a
            checkpoint with the permissions of the user. Defaults to False.

    Returns:
        Config: Config for :func:`build_runner`.

    Raises:
        InputError: If the file does not exist or cannot be read, if an option is unknown, or if a
            keyword argument needs a setting that the config does not have.
    """
    cfg = read_config(str(config))
    cfg.launcher = launcher
    if trust_checkpoints:
        cfg.trust_checkpoints = True
    merge_options(cfg, options or {})
    _add_pretrained_hook(cfg)
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(config).stem))
    if amp:
        if cfg.get('optim_wrapper') is None:
            raise InputError(f'--amp needs optim_wrapper, which {config} does not set; omit --amp')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise InputError(
                f'--auto-scale-lr needs auto_scale_lr.base_batch_size, which {config} does not '
                'set; set it to the batch size for which the learning rate is tuned'
            )
        cfg.auto_scale_lr.enable = True
    if resume is not False:
        cfg.resume = True
        if resume is True and cfg.get('load_from') is not None:
            # for MMEngine, load_from with resume names the checkpoint of the run to resume
            cfg.new_run_load_from = cfg.load_from
        cfg.load_from = None if resume is True else str(resume)
    return cfg


def _add_pretrained_hook(cfg: Config) -> None:
    """Add PretrainedHook to a config that sets ``pretrained``, unless the config has the hook."""
    if pretrained_setting(cfg) is None:
        return
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    kinds = [component_class(HOOKS, hook.get('type')) for hook in hooks if isinstance(hook, dict)]
    if PretrainedHook not in kinds:
        cfg.merge_from_dict(
            dict(default_hooks=dict(pretrained=dict(type='mmcrosscl.PretrainedHook')))
        )


def check_training(cfg: Config) -> None:
    """Check that a config defines a training.

    Raises:
        InputError: If a setting is missing.
    """
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if cfg.get(key) is None:
            raise InputError(
                f'{cfg.filename} has no {key}; pass a config that defines a training, or run a '
                'test with: mmcrosscl test'
            )


def set_test_checkpoint(cfg: Config, checkpoint: str | Path | None) -> None:
    """Set the checkpoint to test.

    Args:
        cfg (Config): The config, which is changed in place.
        checkpoint (str | Path, optional): The checkpoint. None if the test needs no trained model,
            as for k-nearest neighbors, or if the config sets ``load_from``.

    Raises:
        InputError: If the config does not define a test, if the test needs a checkpoint and none is
            set, or if the checkpoint does not exist.
    """
    name = cfg.filename
    # a run that was resumed writes this setting to its config
    cfg.resume = False
    if cfg.get('test_dataloader') is None:
        raise InputError(f'{name} has no test_dataloader; pass a config that defines a test')
    if checkpoint is not None:
        if '://' not in str(checkpoint) and not Path(checkpoint).is_file():
            raise InputError(f'checkpoint {checkpoint} does not exist')
        cfg.load_from = str(checkpoint)
    elif cfg.get('train_cfg') is not None and cfg.get('load_from') is None:
        raise InputError(
            f'{name} tests a trained model; pass the checkpoint of the model after the config'
        )


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config's ``runner_type`` names.

    Args:
        cfg (Config): A complete config that includes ``launcher`` and ``work_dir``. If
            ``runner_type`` is missing, it is set to :class:`ResumableRunner`.

    Raises:
        InputError: If the machine does not support a setting of the config, or if the work dir
            cannot be written to.
    """
    cfg.setdefault('runner_type', 'mmcrosscl.ResumableRunner')
    return RUNNERS.build(cfg)


def merge_changes(text: str, changes: str) -> str:
    """Return the text of a config with the settings of a config file merged into it.

    Args:
        text (str): Text of a config.
        changes (str): Path of a config file, or ``PACKAGE::CONFIG``. A list replaces the list of
            the same name.

    Raises:
        InputError: If the file does not exist or cannot be read.
    """
    with TemporaryDirectory() as temporary:
        path = Path(temporary, 'config.py')
        path.write_text(text)
        cfg = read_config(str(path))
    cfg.merge_from_dict(read_config(changes).to_dict())
    return cfg.pretty_text


def read_config(config: str) -> Config:
    """Read a config file without any change.

    Args:
        config (str): Path of a config file, or ``PACKAGE::CONFIG``.

    Raises:
        InputError: If the file does not exist or cannot be read.
    """
    package, packaged, _ = config.partition('::')
    if packaged and find_spec(package) is None:
        raise InputError(
            f'config {config} needs the package {package}, which is not installed; install it, or '
            'pass the path of a config file'
        )
    if not packaged and not Path(config).is_file():
        raise InputError(
            f'config {config} does not exist; pass a config file, such as a file in configs/'
        )
    try:
        return get_config(config) if packaged else Config.fromfile(config)
    # a config is a Python program and may raise any exception
    except Exception as error:
        if isinstance(error, ImportError) and 'custom modules' in str(error):
            raise InputError(
                f'config {config} cannot be read: {error.__cause__}; correct custom_imports, or '
                'add the folder of the module to PYTHONPATH'
            ) from error
        raise InputError(f'config {config} cannot be read: {error!r}') from error
