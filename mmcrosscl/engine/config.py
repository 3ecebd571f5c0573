"""From a config file and keywords to a runner."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmcrosscl.errors import InputError

from .options import merge_options


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
    """Read a config file and change it as the keywords say, for :func:`build_runner`.

    Args:
        config (str | Path): A file, or ``PACKAGE::CONFIG`` for a config that an installed package
            carries, such as ``mmcrosscl::crosscl/r50_8xb32.py``.
        work_dir (str | Path, optional): Folder for results. Defaults to that of the config, else
            ``work_dirs/<name of the config>``.
        options (Mapping, optional): Settings to override, by dotted names such as
            ``'train_dataloader.batch_size'``; see :func:`merge_options`.
        launcher (str): What started the processes: 'none', 'pytorch', 'slurm' or 'mpi'.
            Defaults to 'none'.
        resume (bool | str | Path): True resumes from the newest checkpoint of the work dir, a name
            from that checkpoint. Defaults to False.
        amp (bool): Train in float16 with a scaled loss. Defaults to False.
        auto_scale_lr (bool): Scale the learning rate by the batch size over the config's
            ``auto_scale_lr.base_batch_size``. Defaults to False.
        trust_checkpoints (bool): Unpickle everything that checkpoints contain, programs included.
            Defaults to False.

    Raises:
        InputError: If the file does not exist or cannot be read, an option is unknown, or a
            keyword needs a setting that the config lacks.
    """
    cfg = _read(str(config))
    cfg.launcher = launcher
    if trust_checkpoints:
        cfg.trust_checkpoints = True
    merge_options(cfg, options or {})
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(config).stem))
    if amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        # A fused optimizer leaves its momentum uninitialized if the first gradients overflow.
        cfg.optim_wrapper.optimizer.pop('fused', None)
    if auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise InputError(
                f'--auto-scale-lr: {config} has no auto_scale_lr.base_batch_size; add the '
                'batch size that its learning rate is for'
            )
        cfg.auto_scale_lr.enable = True
    if resume is not False:
        cfg.resume = True
        cfg.load_from = None if resume is True else str(resume)
    return cfg


def set_test_checkpoint(cfg: Config, checkpoint: str | Path | None) -> None:
    """Set the checkpoint that a config is tested with.

    Args:
        cfg (Config): Changed in place.
        checkpoint (str | Path, optional): None where nothing is trained.

    Raises:
        InputError: If the config has no test, or its model is trained and no checkpoint is given,
            or the checkpoint does not exist.
    """
    name = cfg.filename
    if cfg.get('test_dataloader') is None:
        raise InputError(f'{name} has no test_dataloader; give a config with a test')
    if checkpoint is not None:
        if '://' not in str(checkpoint) and not Path(checkpoint).is_file():
            raise InputError(f'checkpoint {checkpoint} does not exist')
        cfg.load_from = str(checkpoint)
    elif cfg.get('train_cfg') is not None and cfg.get('load_from') is None:
        raise InputError(f'{name} is trained before it is tested; name its checkpoint')


def build_runner(cfg: Config) -> Runner:
    """Build a config's runner, :class:`ResumableRunner` unless its ``runner_type`` is another.

    Args:
        cfg (Config): A complete config, ``launcher`` and ``work_dir`` included; a missing
            ``runner_type`` is set.

    Raises:
        InputError: If the machine lacks what the config needs, or the work dir cannot be written.
    """
    cfg.setdefault('runner_type', 'mmcrosscl.ResumableRunner')
    return RUNNERS.build(cfg)


def _read(config: str) -> Config:
    package, packaged, _ = config.partition('::')
    if packaged and find_spec(package) is None:
        raise InputError(f'config {config} is of a package that is not installed: {package}')
    if not packaged and not Path(config).is_file():
        raise InputError(f'config {config} does not exist; see configs/')
    try:
        return get_config(config) if packaged else Config.fromfile(config)
    # A config is a program and may raise anything.
    except Exception as error:
        raise InputError(f'config {config} cannot be read: {error!r}') from error
