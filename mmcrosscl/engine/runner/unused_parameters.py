"""A short error if the processes wait for gradients of parameters that the loss does not use."""

import re

from torch import nn

from mmcrosscl.engine.unwrap import unwrap_model
from mmcrosscl.errors import InputError


def unused_parameters(error: RuntimeError, model: nn.Module, setting: str) -> InputError | None:
    """Return a short error for the error of torch's DistributedDataParallel, or None for others.

    Args:
        error (RuntimeError): An exception of a training step.
        model (nn.Module): The model in its wrapper for distributed training.
        setting (str): The setting of the config that finds unused parameters.
    """
    text = str(error)
    # torch's error is another one if the setting is already True
    if not text.startswith('Expected to have finished reduction') or 'passing the key' not in text:
        return None
    what = 'some parameters'
    # torch counts the trained parameters only
    names = [name for name, x in unwrap_model(model).named_parameters() if x.requires_grad]
    found = re.search(r'indices which did not receive grad for rank \d+:([ \d]+)', text)
    if found and (indices := [*map(int, found[1].split())]) and indices[-1] < len(names):
        more = f' and {len(indices) - 1} more' if len(indices) > 1 else ''
        what = f'parameter {names[indices[0]]}{more}'
    return InputError(
        f'the loss does not use {what}, but the processes wait for all gradients; set '
        f'{setting}=True in the config'
    )
