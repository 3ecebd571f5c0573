import importlib

import pytest
import torch
from torch.nn import utils

from mmcrosscl.compat import total_norm


@pytest.fixture(params=['torch', 'own'])
def get_total_norm(request, monkeypatch):
    if request.param == 'own':
        monkeypatch.delattr(utils, 'get_total_norm', raising=False)
    yield importlib.reload(total_norm).get_total_norm
    monkeypatch.undo()
    importlib.reload(total_norm)


def test_it_is_the_norm_of_all_values(get_total_norm):
    tensors = [torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.tensor(4.0)]
    assert get_total_norm(tensors) == 5
    assert get_total_norm([torch.ones(2), torch.tensor([torch.nan])]).isnan()
    assert get_total_norm([torch.tensor([torch.inf])]).isinf()
    assert get_total_norm([]) == 0
