"""From samples to a batch."""

import numpy as np
import torch
from torch import Tensor

from mmcrosscl.errors import InputError
from mmcrosscl.registry import FUNCTIONS


@FUNCTIONS.register_module()
def collate_views(samples: list[dict], _scope_: str | None = None) -> dict:
    """Put the views of all samples together.

    Args:
        samples (list[dict]): N times what :class:`~mmcrosscl.datasets.transforms.PackViews` gives.
        _scope_ (str, optional): What MMEngine writes into the settings of a config that another
            package inherits, and then hands to this function. Not used.

    Returns:
        dict: 'inputs', query views and key views, each (N, 3, S, S) uint8 in channels-last memory,
        and 'data_samples', a list of N.

    Raises:
        InputError: If the views are not those of PackViews.
    """
    return dict(
        inputs=[_stack(views) for views in zip(*(sample['inputs'] for sample in samples))],
        data_samples=[sample['data_samples'] for sample in samples],
    )


def _stack(views: tuple[np.ndarray, ...]) -> Tensor:
    if not all(isinstance(view, np.ndarray) and view.shape[2:] == (3,) for view in views):
        raise InputError(
            'a view is no (S, S, 3) array; end the pipeline with mmcrosscl.PackViews, or take '
            'another collate_fn than mmcrosscl.collate_views'
        )
    batch = torch.empty(len(views), *views[0].shape, dtype=torch.uint8)
    np.stack(views, out=batch.numpy())
    return batch.permute(0, 3, 1, 2)
