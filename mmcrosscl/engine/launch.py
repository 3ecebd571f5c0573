"""Reads a config and builds a runner from it on whatever machine this is."""

import os
from argparse import SUPPRESS, ArgumentParser, Namespace
from datetime import timedelta
from pathlib import Path

import torch
from mmcv.ops import get_compiling_cuda_version
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import distributed

from mmcrosscl.errors import InputError


def add_config_arguments(parser: ArgumentParser) -> None:
    """Add the config and what every command line may say about it; see :func:`read_config`."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where to write; default work_dirs/<name of the config>')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings, for example train_dataloader.batch_size=16; a list is key="[a,b]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes',
    )
    parser.add_argument(
        '--trust-checkpoints',
        action='store_true',
        help='unpickle whatever checkpoints hold: that runs any program that their authors put '
        'there, with your rights',
    )
    # torchrun and torch.distributed.launch say it in the environment or on the command line
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=SUPPRESS)


def read_config(args: Namespace) -> Config:
    """The config of a command line, for :func:`build_runner`.

    Args:
        args (Namespace): What :func:`add_config_arguments` asked for.

    Raises:
        InputError: If there is no such file, or it cannot be read.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not Path(args.config).is_file():
        raise InputError(f'config {args.config} does not exist; see configs/')
    try:
        cfg = Config.fromfile(args.config)
    # a config is a program and may fail as any other
    except Exception as error:
        raise InputError(f'config {args.config} cannot be read: {error!r}') from error
    cfg.launcher = args.launcher
    if args.trust_checkpoints:
        cfg.trust_checkpoints = True
    cfg.merge_from_dict(args.cfg_options or {})
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    return cfg


def build_runner(cfg: Config) -> Runner:
    """The config's runner, :class:`ResumableRunner` unless its ``runner_type`` is another.

    Without a GPU its processes talk over gloo.

    Args:
        cfg (Config): A whole training config, ``launcher`` and ``work_dir`` included. Changed in
            place where there is no GPU.

    Returns:
        Runner: Ready for ``train()``.

    Raises:
        InputError: If mixed precision is asked for without a GPU, mmcv's ops cannot use the GPU,
            the images do not fill a batch, or the work dir cannot be written to.
    """
    if cfg.get('launcher', 'none') == 'pytorch' and 'RANK' not in os.environ:
        raise InputError('--launcher pytorch is for torchrun to give; use tools/dist_train.sh')
    if torch.cuda.is_available():
        if get_compiling_cuda_version() == 'not available':
            raise InputError(
                "mmcv's ops were compiled without CUDA; run `make setup CUDA=1`, or train without "
                'the GPU: CUDA_VISIBLE_DEVICES=-1'
            )
    else:
        if cfg.get('optim_wrapper', {}).get('type') == 'AmpOptimWrapper':
            raise InputError('mixed precision needs a GPU, and none is found; leave --amp away')
        if cfg.get('launcher', 'none') != 'none':
            _gather_without_gpu(cfg)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name) or {}
        if loader.get('num_workers') == 0:
            # torch refuses both without workers
            loader['persistent_workers'] = False
            loader.pop('timeout', None)
    cfg.setdefault('runner_type', 'mmcrosscl.ResumableRunner')
    runner = RUNNERS.build(cfg)
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop) and len(loop.dataloader) == 0:
        raise InputError(
            f'{len(loop.dataloader.dataset)} images do not fill a batch of '
            f'{loop.dataloader.batch_size} on each of {runner.world_size} processes; give more '
            'images, a smaller train_dataloader.batch_size or train_dataloader.drop_last=False'
        )
    return runner


def _gather_without_gpu(cfg: Config) -> None:
    # mmengine would bind each process to a GPU before it opens the group
    if cfg.launcher != 'pytorch':
        raise InputError(
            f'launcher {cfg.launcher} needs GPUs, and none is found; use --launcher pytorch'
        )
    seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
    distributed.init_process_group('gloo', timeout=seconds and timedelta(seconds=seconds))
    wrapper = dict(device_ids=None, broadcast_buffers=False)
    wrapper['find_unused_parameters'] = cfg.get('find_unused_parameters', False)
    cfg.setdefault('model_wrapper_cfg', wrapper)
