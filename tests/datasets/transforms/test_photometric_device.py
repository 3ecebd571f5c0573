"""Each operation on a batch matches the same operation on one view."""

import numpy as np
import pytest
import torch

from mmcrosscl.datasets.transforms.photometric import OPERATIONS
from tests.datasets.transforms.images import PHOTOS, error, photo

CASES = dict(
    blur=((0.1, 0.5, 1.3, 2.0), 0.1),
    brightness=((0.6, 0.9, 1.2, 1.4), 0.05),
    contrast=((0.6, 0.9, 1.2, 1.4), 0.2),
    saturation=((0.6, 0.9, 1.2, 1.4), 0.7),
    hue=((-0.1, -0.03, 0.05, 0.1), 1.6),
    grayscale=((0.0, 0.0, 0.0, 0.0), 0.05),
)


@pytest.mark.parametrize('name', OPERATIONS)
def test_each_view_is_changed_with_its_own_parameter(name):
    operation, (values, bound) = OPERATIONS[name], CASES[name]
    views = np.stack([photo(name)[:224, :224] for name in PHOTOS])
    batch = torch.from_numpy(views).permute(0, 3, 1, 2).float()
    parameters = torch.tensor([[value, *operation.arguments] for value in values])
    changed = operation.on_device(batch, parameters, max(values))
    assert torch.equal(changed, changed.round()) and changed.min() >= 0 and changed.max() <= 255
    for view, value, image in zip(views, values, changed.permute(0, 2, 3, 1).numpy()):
        assert error(image, operation.on_cpu(view, value)) < bound
