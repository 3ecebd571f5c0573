import os
import signal
import time

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmcrosscl.engine import PREEMPTED, build_runner
from tests.engine import runs


def test_children_that_inherit_the_handlers_can_be_ended(tmp_path):
    cfg = runs.tiny_run(tmp_path, length=2)
    cfg.custom_hooks = [dict(type='Pool')]
    begin = time.monotonic()
    assert runs.finish(runs.start(cfg), timeout=60) == [0]
    assert time.monotonic() - begin < 60


@HOOKS.register_module()
class Tell(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize('counts, last', [(1, 2), (3, 3)])
def test_accumulated_gradients_are_used_before_the_end(tmp_path, handlers, counts, last):
    cfg = runs.tiny_run(tmp_path, length=3)
    cfg.optim_wrapper.accumulative_counts = counts
    cfg.custom_hooks = [dict(type='Tell')]
    with pytest.raises(SystemExit) as caught:
        build_runner(cfg).train()
    assert caught.value.code == PREEMPTED
    assert [path.name for path in tmp_path.glob('work/*.pth')] == [f'epoch_0_iter_{last}.pth']


def test_the_handlers_are_those_of_before_when_training_is_over(tmp_path, handlers):
    build_runner(runs.tiny_run(tmp_path, length=1)).train()
    assert {number: signal.getsignal(number) for number in handlers} == handlers
