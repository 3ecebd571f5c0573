import os
import signal
import time

import pytest
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS

from mmcrosscl.engine import SafeCheckpointHook, build_runner
from mmcrosscl.errors import EXIT_PREEMPTED
from tests.engine import runs


@pytest.mark.slow
def test_signals_end_child_processes_although_the_parent_has_handlers(tmp_path):
    cfg = runs.tiny_run(tmp_path, length=2)
    cfg.custom_hooks = [dict(type='Pool')]
    begin = time.monotonic()
    assert runs.finish(runs.start(cfg), timeout=60) == [0]
    assert time.monotonic() - begin < 60


@HOOKS.register_module()
class SendSignal(Hook):
    """Sends SIGTERM to the process in the second iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1:
            os.kill(os.getpid(), signal.SIGTERM)


@HOOKS.register_module()
class Raise(Hook):
    """Raises an exception in the first iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise ZeroDivisionError('raised by a hook')


class OwnCheckpointHook(CheckpointHook):
    """A user-defined subclass, which the runner does not replace."""


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize('counts, last', [(1, 2), (3, 3)])
def test_accumulated_gradients_are_used_before_training_ends(tmp_path, handlers, counts, last):
    cfg = runs.tiny_run(tmp_path, length=3)
    cfg.optim_wrapper.accumulative_counts = counts
    cfg.custom_hooks = [dict(type='SendSignal')]
    with pytest.raises(SystemExit) as caught:
        build_runner(cfg).train()
    assert caught.value.code == EXIT_PREEMPTED
    assert [path.name for path in tmp_path.glob('work/*.pth')] == [f'epoch_0_iter_{last}.pth']


def test_the_handlers_are_restored_when_training_ends(tmp_path, handlers):
    build_runner(runs.tiny_run(tmp_path, length=1)).train()
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_the_handlers_are_restored_after_an_exception(tmp_path, handlers):
    cfg = runs.tiny_run(tmp_path, length=1)
    cfg.custom_hooks = [dict(type='Raise')]
    with pytest.raises(ZeroDivisionError):
        build_runner(cfg).train()
    assert {number: signal.getsignal(number) for number in handlers} == handlers


CHECKPOINT_HOOKS = {
    'text': dict(type='CheckpointHook', interval=100),
    'text with scope': dict(type='mmengine.CheckpointHook', interval=100),
    'class': dict(type=CheckpointHook, interval=100),
    'own subclass': dict(type=OwnCheckpointHook, interval=100),
    'none': None,
}


@pytest.mark.parametrize('name', CHECKPOINT_HOOKS)
def test_a_preempted_run_saves_and_resumes_with_any_checkpoint_hook(tmp_path, handlers, name):
    def cfg(preempt):
        cfg = runs.tiny_run(tmp_path, length=2)
        # not with a dict method, because merging would keep the type of the default hook
        cfg.default_hooks['checkpoint'] = CHECKPOINT_HOOKS[name]
        cfg.custom_hooks = [dict(type='SendSignal')] if preempt else []
        return cfg

    with pytest.raises(SystemExit) as caught:
        build_runner(cfg(preempt=True)).train()
    assert caught.value.code == EXIT_PREEMPTED
    assert [path.name for path in tmp_path.glob('work/*.pth')] == ['epoch_0_iter_2.pth']
    again = cfg(preempt=False)
    again.resume = True
    build_runner(again).train()
    log = runs.log_of(tmp_path)
    assert 'resumed epoch: 0, iter: 2' in log


@pytest.mark.parametrize('kind', ['CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook])
def test_mmengines_checkpoint_hook_is_replaced_however_it_is_named(tmp_path, kind):
    cfg = runs.tiny_run(tmp_path)
    cfg.default_hooks.checkpoint = dict(type=kind, interval=1)
    cfg.custom_hooks = [dict(type=kind, interval=5, by_epoch=False)]
    saving = [hook for hook in build_runner(cfg).hooks if isinstance(hook, CheckpointHook)]
    assert [type(hook) for hook in saving] == [SafeCheckpointHook] * 2
