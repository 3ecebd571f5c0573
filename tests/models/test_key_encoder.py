import pytest
import torch
from torch import nn

from mmcrosscl.errors import InputError
from mmcrosscl.models import KeyEncoder


class Neck(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return {'global': self.linear(x.mean(dim=(2, 3)))}


def query():
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), Neck()


def shift(module, by):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += by


def test_the_first_update_copies_and_later_updates_average():
    backbone, neck = query()
    encoder = KeyEncoder(backbone, neck, momentum=0.25)
    shift(backbone, 1)  # like an initialization after the key encoder is built
    backbone[1].running_mean += 7
    encoder.update(backbone, neck)
    for actual, reference in zip(
        encoder.backbone.state_dict().values(), backbone.state_dict().values()
    ):
        assert torch.equal(actual, reference)

    start = [p.clone() for p in encoder.parameters()]
    shift(backbone, 4)
    shift(neck, 4)
    encoder.update(backbone, neck)
    for old, new in zip(start, encoder.parameters()):
        torch.testing.assert_close(new, old + 0.25 * 4)


def test_batch_norm_keeps_its_own_statistics():
    backbone, neck = query()
    encoder = KeyEncoder(backbone, neck, momentum=0.5)
    encoder.update(backbone, neck)
    encoder(torch.randn(4, 3, 2, 2) + 5)
    mean = encoder.backbone[1].running_mean.clone()
    assert not torch.equal(mean, backbone[1].running_mean)
    encoder.update(backbone, neck)
    assert torch.equal(encoder.backbone[1].running_mean, mean)


def test_the_key_encoder_has_no_gradient():
    encoder = KeyEncoder(*query(), momentum=0.5)
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not encoder(torch.randn(2, 3, 2, 2))['global'].requires_grad


def test_a_loaded_state_is_averaged_and_not_overwritten():
    backbone, neck = query()
    trained = KeyEncoder(backbone, neck, momentum=0.5)
    trained.update(backbone, neck)
    shift(trained, 10)
    encoder = KeyEncoder(backbone, neck, momentum=0.5)
    encoder.update(backbone, neck)  # reads `steps` before the state is loaded
    encoder.load_state_dict(trained.state_dict())
    encoder.update(backbone, neck)
    for actual, reference in zip(encoder.parameters(), trained.parameters()):
        torch.testing.assert_close(actual, reference - 5)


def test_keys_are_in_the_order_of_the_views():
    class Pass(nn.Module):
        def forward(self, x):
            return {'map': x, 'global': x[:, :, 0, 0]}

    encoder = KeyEncoder(nn.Identity(), Pass(), momentum=0.5)
    view = torch.randn(16, 3, 2, 2)
    keys = encoder(view)
    assert torch.equal(keys['map'], view) and torch.equal(keys['global'], view[:, :, 0, 0])


@pytest.mark.parametrize('momentum', [0, -1, 1.5])
def test_momentum_out_of_range_raises_an_error(momentum):
    with pytest.raises(InputError, match='momentum is'):
        KeyEncoder(*query(), momentum=momentum)
