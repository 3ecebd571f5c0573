import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper

from mmcrosscl.compat import fused_optimizer
from mmcrosscl.compat.fused_optimizer import supports_fused, without_unsupported_fused

CPU = torch.device('cpu')


class OldSGD(torch.optim.SGD):
    """SGD of a release without the argument."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)


class OtherDevicesOnly(torch.optim.SGD):
    """SGD of a release whose fused kernels do not include CPUs."""

    def __init__(self, params, lr, fused=False):
        if fused:
            raise RuntimeError('fused=True requires CUDA')
        super().__init__(params, lr=lr)


@pytest.mark.parametrize('optimizer', [OldSGD, OtherDevicesOnly])
def test_an_unsupported_setting_is_removed_with_a_line_in_the_log(optimizer, capsys, monkeypatch):
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: MMLogger('compat'))
    assert not supports_fused(optimizer, 'cpu')
    settings = dict(type='OptimWrapper', optimizer=dict(type=optimizer, lr=0.1, fused=True))
    changed = without_unsupported_fused(settings, CPU)
    assert changed == dict(type='OptimWrapper', optimizer=dict(type=optimizer, lr=0.1))
    assert settings['optimizer']['fused']
    assert 'The optimizer is not fused' in capsys.readouterr().out
    settings['optimizer']['fused'] = False
    assert without_unsupported_fused(settings, CPU) == changed
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('wrapper', ['AmpOptimWrapper', AmpOptimWrapper])
def test_loss_scaling_removes_the_setting(wrapper, capsys, monkeypatch):
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: MMLogger('compat'))
    settings = dict(type=wrapper, optimizer=dict(type='SGD', lr=0.1, fused=True))
    changed = without_unsupported_fused(settings, CPU)
    assert changed == dict(type=wrapper, optimizer=dict(type='SGD', lr=0.1))
    assert 'not fused, because an overflow in the first iteration' in capsys.readouterr().out


def test_other_settings_are_kept(monkeypatch):
    for settings in (dict(constructor='x'), dict(optimizer=dict(type='SGD', lr=0.1))):
        assert without_unsupported_fused(settings, CPU) is settings
    monkeypatch.setattr(fused_optimizer, 'supports_fused', lambda *_: True)
    settings = dict(optimizer=dict(type='SGD', lr=0.1, fused=True))
    assert without_unsupported_fused(settings, CPU) is settings
