"""Description of the installation and the machine for bug reports."""

import os
import platform
import re
from importlib import import_module
from pathlib import Path

from .dependencies import REQUIRED, has_compiled_ops, installed, problems
from .version import __version__

# the driver creates a folder per GPU
NVIDIA_GPUS = '/proc/driver/nvidia/gpus'


def describe_environment() -> tuple[str, list[str]]:
    """Describe versions, compiled ops, GPUs and precision.

    Returns:
        tuple[str, list[str]]: A text with one fact per line, and a list of the problems, each with
        its fix. The text contains the problems, too. The list is empty if there are no problems.
    """
    rows = {
        'mmcrosscl': f'{__version__} in {Path(__file__).parent}',
        'Python': f'{platform.python_version()} ({platform.python_implementation()})',
        'system': platform.platform(),
        'processor': f'{_processor()}, {os.cpu_count()} cores',
    }
    for name in REQUIRED:
        have = installed(name)
        rows[name] = 'not installed' if have is None else f'{have[1]} ({have[0].distribution})'
    fixes = problems()
    for name in ('torch', 'torchvision', 'numpy', 'PIL', 'cv2', 'simplejpeg', 'safetensors'):
        try:
            rows[name] = getattr(import_module(name), '__version__', 'installed')
        # importing a broken installation may raise any exception
        except Exception as error:
            rows[name] = f'cannot be imported: {error}'
            fixes.append(f'{name} cannot be imported ({error}); reinstall it')
    if not rows['torch'].startswith('cannot'):
        _describe_devices(rows, fixes)
    width = max(map(len, rows))
    lines = [f'{name:{width}}  {value}' for name, value in rows.items()]
    lines += [f'{"fix":{width}}  {fix}' for fix in fixes or ['nothing to fix']]
    return '\n'.join(lines), fixes


def unusable_gpu() -> str | None:
    """Return a sentence with a fix if the machine has an NVIDIA GPU that torch cannot use.

    A GPU that ``CUDA_VISIBLE_DEVICES`` hides is not a problem.
    """
    import torch

    hidden = os.environ.get('CUDA_VISIBLE_DEVICES') in ('', '-1')
    if hidden or torch.cuda.is_available() or not any(Path(NVIDIA_GPUS).glob('*')):
        return None
    reason = 'is a build without CUDA'
    if torch.version.cuda:
        reason = f'needs a driver for CUDA {torch.version.cuda}, which nvidia-smi shows'
    return (
        f'the machine has a GPU, but torch cannot use it: torch {torch.__version__} {reason}; '
        'update the driver or install another build of torch, or set CUDA_VISIBLE_DEVICES=-1 to '
        'train without the GPU'
    )


def _describe_devices(rows: dict[str, str], fixes: list[str]) -> None:
    import torch

    rows['torch CUDA'] = torch.version.cuda or 'none (CPU build)'
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    rows['GPUs'] = (
        ', '.join(f'{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)' for gpu in gpus) or 'none'
    )
    compiled = 'not compiled'
    if has_compiled_ops():
        try:
            version = import_module('mmcv.ops').get_compiling_cuda_version()
            compiled = 'CPU' if version == 'not available' else f'CUDA {version}'
        # ops that were compiled for another version of torch fail to load
        except Exception as error:
            compiled = f'cannot be loaded: {error}'
            fixes.append(
                'mmcv was compiled for another version of torch; reinstall mmcv with: '
                'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir --force-reinstall '
                '--no-deps onedl-mmcv'
            )
    rows["mmcv's ops"] = compiled
    if gpus and compiled == 'CPU':
        fixes.append(
            "mmcv's ops are compiled for the CPU only; run `make setup CUDA=1`, or set "
            'CUDA_VISIBLE_DEVICES=-1 to train without the GPU'
        )
    if (problem := unusable_gpu()) is not None:
        fixes.append(problem)
    precision = ['float32', 'bfloat16 (mmcrosscl.BFloat16OptimWrapper)']
    if gpus:
        precision = ['float32', 'float16 (--amp)']
        if torch.cuda.is_bf16_supported():
            precision.append('bfloat16 (mmcrosscl.BFloat16OptimWrapper)')
    rows['precision'] = ', '.join(precision)


def _processor() -> str:
    try:
        found = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
