import os
import signal
import time

import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.engine import SafeCheckpointHook, build_runner
from mmcrosscl.errors import EXIT_PREEMPTED
from tests.engine import runs
from tests.engine.toys import toy, train


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


PLATEAU = dict(
    param_scheduler=[
        dict(type='ReduceOnPlateauLR', monitor='score', rule='greater', patience=0, factor=0.1)
    ]
)
EARLY = dict(
    custom_hooks=[
        dict(type='EarlyStoppingHook', monitor='score', rule='greater', patience=2, min_delta=0)
    ]
)
BEST = dict(default_hooks=dict(checkpoint=dict(save_best='score', rule='greater', interval=1)))
SCORES = [0.4, 0.5, 0.45, 0.44, 0.43, 0.42]
BOTH = {**PLATEAU, **BEST}
MOMENTS = [
    dict(train=9),
    dict(train=8),
    dict(killed=(8, 2)),
    dict(signaled=(8, 2)),
    dict(scored=8),
]


@pytest.mark.parametrize(
    'settings', [PLATEAU, EARLY, BEST, BOTH], ids=['plateau', 'early', 'best', 'both']
)
@pytest.mark.parametrize('moment', MOMENTS, ids=str)
def test_results_of_validations_survive(tmp_path, handlers, settings, moment):
    """Killed after a validation, within it or before a save after it, or preempted within it."""

    def start(name, **changes):
        settings_ = dict(train_cfg=dict(max_epochs=6), **settings)
        return toy(tmp_path / name, SCORES, **{**settings_, **changes})

    whole = train(start('whole'))
    try:
        train(start('parts'), **moment)
    except SystemExit as error:
        assert error.code == EXIT_PREEMPTED
    # killed again, before a further checkpoint is saved
    train(start('parts', resume=True), train=10)
    resumed = train(start('parts', resume=True))
    assert resumed.iter == whole.iter == (16 if settings is EARLY else 24)
    assert resumed.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])
    best = [sorted(p.name for p in (tmp_path / x).glob('best*')) for x in ('whole', 'parts')]
    assert best[0] == best[1] and bool(best[0]) == ('default_hooks' in settings)


@pytest.mark.parametrize('batch', [1, 5])
def test_a_signal_in_either_pass_of_mmpretrains_validation(tmp_path, handlers, batch):
    """The averaged weights are in the model during the first pass only."""
    average = dict(type='mmpretrain.EMAHook', momentum=0.1, evaluate_on_origin=True)
    cfg = toy(tmp_path, SCORES, custom_hooks=[average])
    with pytest.raises(SystemExit) as caught:
        train(cfg, signaled=(8, batch))
    assert caught.value.code == EXIT_PREEMPTED
    saved = read_checkpoint(tmp_path / 'epoch_2_iter_8.pth')
    before = read_checkpoint(tmp_path / 'epoch_2.pth')
    for part in ('state_dict', 'ema_state_dict'):
        assert all(torch.equal(value, before[part][name]) for name, value in saved[part].items())


def test_a_signal_in_a_validation_within_an_accumulation(tmp_path, handlers):
    cfg = toy(tmp_path, SCORES, by_epoch=False)
    cfg.optim_wrapper.accumulative_counts = 5
    with pytest.raises(SystemExit):
        train(cfg, signaled=(4, 1))
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_5.pth')
