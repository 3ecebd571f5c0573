"""Access to a model within its wrapper for distributed training."""

from mmengine.model import BaseModel, is_model_wrapper
from torch import nn


def unwrap_model(model: nn.Module) -> BaseModel:
    """Return the model within a wrapper such as DistributedDataParallel, or the model itself."""
    return model.module if is_model_wrapper(model) else model
