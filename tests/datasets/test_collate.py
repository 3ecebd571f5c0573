import numpy as np
import pytest
import torch

from mmcrosscl.datasets import collate_views
from mmcrosscl.errors import InputError


def test_views_are_stacked_as_bytes_in_channels_last_memory():
    rng = np.random.default_rng(0)
    samples = [
        dict(inputs=[rng.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(2)], data_samples=i)
        for i in range(3)
    ]
    batch = collate_views(samples, _scope_='mmpretrain')
    assert batch['data_samples'] == [0, 1, 2]
    for which, views in enumerate(batch['inputs']):
        assert views.shape == (3, 3, 8, 8) and views.dtype == torch.uint8
        assert views.is_contiguous(memory_format=torch.channels_last)
        for sample, view in zip(samples, views):
            assert np.array_equal(sample['inputs'][which], view.permute(1, 2, 0).numpy())


def test_views_of_another_pack_transform_are_refused():
    samples = [dict(inputs=[torch.zeros(3, 8, 8, dtype=torch.uint8)] * 2, data_samples=0)]
    with pytest.raises(InputError, match='end the pipeline with mmcrosscl.PackViews'):
        collate_views(samples)
