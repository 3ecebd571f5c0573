"""Whether an optimizer wrapper of any kind updates the weights."""

from mmengine.optim import OptimWrapper, OptimWrapperDict


def updates_now(wrapper: OptimWrapper | OptimWrapperDict) -> bool:
    """Return whether the current iteration updates the weights.

    It does not while gradients are accumulated. Of several optimizers, each must update.
    """
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return all(each.should_update() for each in wrappers)
