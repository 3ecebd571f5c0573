"""Check that the machine supports the device and the precision of a training."""

import torch
from mmcv.ops import get_compiling_cuda_version
from mmengine.optim import OptimWrapper

from mmcrosscl.compat.fused_optimizer import scales_loss
from mmcrosscl.environment import unusable_gpu
from mmcrosscl.errors import InputError


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
