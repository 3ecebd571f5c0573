"""Checks of the launcher and the GPU, and process groups without a GPU."""

import os
from datetime import timedelta

import torch
from mmcv.ops import get_compiling_cuda_version
from mmengine.optim import OptimWrapper
from torch import distributed

from mmcrosscl.compat.fused_optimizer import scales_loss
from mmcrosscl.environment import unusable_gpu
from mmcrosscl.errors import InputError


def check_launcher(launcher: str) -> None:
    """Raise an InputError if the launcher is 'pytorch' but torchrun did not start the process."""
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise InputError(
            '--launcher pytorch needs processes started by torchrun; use tools/dist_train.sh'
        )


def check_device(optim_wrapper: OptimWrapper | dict | None) -> None:
    """Check that torch and mmcv's ops support the GPU or, without a GPU, the precision.

    Args:
        optim_wrapper (OptimWrapper | dict, optional): The optimizer wrapper or its config.

    Raises:
        InputError: If torch cannot use the GPU of the machine, if mmcv's ops are compiled without
            CUDA, or if there is no GPU and the precision is float16.
    """
    if torch.cuda.is_available():
        if get_compiling_cuda_version() == 'not available':
            raise InputError(
                "mmcv's ops were compiled without CUDA; run `make setup CUDA=1`, or set "
                'CUDA_VISIBLE_DEVICES=-1 to train without the GPU'
            )
        return
    if (problem := unusable_gpu()) is not None:
        raise InputError(problem)
    if scales_loss(optim_wrapper):
        raise InputError(
            'float16 needs a GPU, but no GPU is found; omit --amp, or set '
            'optim_wrapper.type=mmcrosscl.BFloat16OptimWrapper'
        )


def join_gloo(launcher: str, env_cfg: dict) -> None:
    """Initialize a gloo process group. MMEngine's function would bind the process to a GPU.

    Args:
        launcher (str): Program that started the processes.
        env_cfg (dict): The config's ``env_cfg``. ``dist_cfg.timeout`` is the time limit of
            collectives, in seconds.

    Raises:
        InputError: If the launcher is not 'pytorch'.
    """
    if launcher != 'pytorch':
        raise InputError(
            f'launcher {launcher} needs GPUs, but no GPU is found; use --launcher pytorch'
        )
    if not distributed.is_initialized():
        distributed.init_process_group('gloo', timeout=collective_timeout(env_cfg))


def collective_timeout(env_cfg: dict) -> timedelta | None:
    """Return the time limit of collectives, or None for torch's default."""
    seconds = env_cfg.get('dist_cfg', {}).get('timeout')
    return seconds and timedelta(seconds=seconds)
