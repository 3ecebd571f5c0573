"""Checks that the machine has what a config needs, and processes without a GPU."""

import os
from datetime import timedelta

import torch
from mmcv.ops import get_compiling_cuda_version
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import distributed

from mmcrosscl.errors import InputError
from mmcrosscl.registry import OPTIM_WRAPPERS, component_class


def check_launcher(launcher: str) -> None:
    """Raise InputError if the launcher is torchrun's, and torchrun did not start the process."""
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise InputError('--launcher pytorch is for torchrun to give; use tools/dist_train.sh')


def check_device(optim_wrapper: OptimWrapper | dict | None) -> None:
    """Check that mmcv's ops can use the GPU, or that the precision needs none.

    Args:
        optim_wrapper (OptimWrapper | dict, optional): The optimizer wrapper or its config.

    Raises:
        InputError: If they cannot, or it does.
    """
    if torch.cuda.is_available():
        if get_compiling_cuda_version() == 'not available':
            raise InputError(
                "mmcv's ops were compiled without CUDA; run `make setup CUDA=1`, or train without "
                'the GPU: CUDA_VISIBLE_DEVICES=-1'
            )
        return
    kind = optim_wrapper.get('type') if isinstance(optim_wrapper, dict) else type(optim_wrapper)
    kind = component_class(OPTIM_WRAPPERS, kind)
    if isinstance(kind, type) and issubclass(kind, AmpOptimWrapper):
        raise InputError(
            'float16 needs a GPU, and none is found; omit --amp, or use '
            'optim_wrapper.type=mmcrosscl.BFloat16OptimWrapper'
        )


def join_gloo(launcher: str, env_cfg: dict) -> None:
    """Form a gloo group; MMEngine would bind the process to a GPU first.

    Args:
        launcher (str): What started the processes.
        env_cfg (dict): The config's, with the time limit of collectives in ``dist_cfg``.

    Raises:
        InputError: If the launcher is not torchrun.
    """
    if launcher != 'pytorch':
        raise InputError(
            f'launcher {launcher} needs GPUs, and none is found; use --launcher pytorch'
        )
    if not distributed.is_initialized():
        distributed.init_process_group('gloo', timeout=collective_timeout(env_cfg))


def collective_timeout(env_cfg: dict) -> timedelta | None:
    """Return how long processes wait for each other, None for torch's default."""
    seconds = env_cfg.get('dist_cfg', {}).get('timeout')
    return seconds and timedelta(seconds=seconds)
