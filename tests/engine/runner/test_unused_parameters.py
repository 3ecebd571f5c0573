"""The error of parameters that the loss does not use, with a process group of one process."""

import pytest
from mmengine.registry import MODELS
from mmpretrain.models import ResNet
from torch import distributed, nn

from mmcrosscl.engine import build_runner
from mmcrosscl.engine.runner.unused_parameters import unused_parameters
from mmcrosscl.errors import InputError
from tests.engine import runs
from tests.ports import free_port


@MODELS.register_module()
class SpareResNet(ResNet):
    """A ResNet with two parameters that its maps do not depend on."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.spare = nn.Linear(1, 1)


@pytest.fixture
def group(monkeypatch):
    variables = dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, MASTER_ADDR='127.0.0.1')
    for name, value in dict(variables, MASTER_PORT=free_port()).items():
        monkeypatch.setenv(name, str(value))
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize('find', [False, True])
def test_unused_parameters_need_a_setting(tmp_path, group, find):
    cfg = runs.tiny_run(tmp_path, length=1)
    cfg.model.backbone.type = 'SpareResNet'
    cfg.launcher, cfg.find_unused_parameters = 'pytorch', find
    runner = build_runner(cfg)
    if find:
        runner.train()
        return
    message = (
        'the loss does not use parameter backbone.spare.weight and 1 more, .* set '
        'find_unused_parameters=True in the config'
    )
    with pytest.raises(InputError, match=message):
        runner.train()


def test_other_errors_are_no_unused_parameters():
    model = nn.Linear(1, 1)
    text = 'Expected to have finished reduction in the prior iteration before starting a new one. '
    enabled = text + 'Since `find_unused_parameters=True` is enabled, this likely means'
    for other in ('CUDA out of memory', enabled):
        assert unused_parameters(RuntimeError(other), model, 'x') is None
    known = RuntimeError(f'{text}You can enable it by passing the keyword argument')
    assert str(unused_parameters(known, model, 'y.x')).startswith('the loss does not use some par')
    assert 'set y.x=True' in str(unused_parameters(known, model, 'y.x'))
