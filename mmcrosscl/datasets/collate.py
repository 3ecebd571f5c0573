"""From samples to a batch."""

from mmengine.dataset import default_collate

from mmcrosscl.registry import FUNCTIONS


@FUNCTIONS.register_module()
def collate_views(samples: list[dict], _scope_: str | None = None) -> dict:
    """Stack the views of all samples; MMEngine's ``default_collate`` for inherited configs.

    Args:
        samples (list[dict]): N times 'inputs', query and key view, and 'data_samples'.
        _scope_ (str, optional): What MMEngine writes into the settings of a config that another
            package inherits, and then hands to this function. Not used.

    Returns:
        dict: 'inputs', two (N, 3, S, S) tensors, and 'data_samples', a list of N.
    """
    return default_collate(samples)
