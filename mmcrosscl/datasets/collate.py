"""Collation of packed samples into a batch."""

import numpy as np
import torch
from torch import Tensor

from mmcrosscl.errors import InputError
from mmcrosscl.registry import FUNCTIONS


@FUNCTIONS.register_module()
def collate_views(samples: list[dict], _scope_: str | None = None) -> dict:
    """Stack the views of all samples into a batch.

    Args:
        samples (list[dict]): N results of :class:`~mmcrosscl.datasets.transforms.PackViews`.
        _scope_ (str, optional): Not used. MMEngine passes this argument if the config inherits from
            a config of another package.

    Returns:
        dict: 'inputs' is a list of the query views and the key views, each (N, 3, S, S) uint8 in
        channels-last memory format. 'data_samples' is a list of N
        :class:`~mmcrosscl.structures.ViewPairSample`.

    Raises:
        InputError: If a view is not an (S, S, 3) array. ``PackViews`` returns views of this format.
    """
    return dict(
        inputs=[_stack(views) for views in zip(*(sample['inputs'] for sample in samples))],
        data_samples=[sample['data_samples'] for sample in samples],
    )


def _stack(views: tuple[np.ndarray, ...]) -> Tensor:
    if not all(isinstance(view, np.ndarray) and view.shape[2:] == (3,) for view in views):
        raise InputError(
            'a view is not an (S, S, 3) array; end the pipeline with mmcrosscl.PackViews, or use a '
            'collate_fn other than mmcrosscl.collate_views'
        )
    batch = torch.empty(len(views), *views[0].shape, dtype=torch.uint8)
    np.stack(views, out=batch.numpy())
    return batch.permute(0, 3, 1, 2)
