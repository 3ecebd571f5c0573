import logging
from types import SimpleNamespace

import pytest
import torch
from mmdet.structures import DetDataSample
from torch import nn

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.engine import FiniteOptimWrapper, NonFiniteHook, build_runner
from mmcrosscl.errors import NonFiniteError
from tests.engine import runs
from tests.engine.optim.skipped_updates import FUSED, poisoned, tensors
from tests.ports import free_port

needs_scaler = pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'), reason='torch before 2.3 scales losses on GPUs only'
)
DYNAMIC = dict(scale=2.0**10, static=False)
STATIC = dict(scale=2.0**10, static=True)


def with_scaling(*settings):
    return pytest.mark.parametrize(
        'scaling',
        [pytest.param(x, marks=needs_scaler if x else (), id=str(x)) for x in settings],
    )


@with_scaling(None, DYNAMIC, STATIC)
def test_a_nan_inf_step_does_not_change_the_weights(tmp_path, scaling):
    cfg = poisoned(tmp_path, [4], length=3, scaling=scaling)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=1)
    build_runner(cfg).train()
    before, after, later = (tensors(tmp_path / f'work/iter_{i}.pth') for i in (4, 5, 6))
    moving = ('key_encoder.', 'queue.')
    for name, value in after.items():
        assert value.isfinite().all(), name
        if not name.startswith(moving) or name.endswith(('running_mean', 'running_var')):
            assert torch.equal(value, before[name]), name
    weight = 'backbone.conv1.weight'
    assert not torch.equal(later[weight], after[weight])
    assert (
        'NaN/Inf loss or gradient in iteration 5: the update is skipped '
        '(1 consecutive, 1 in total).' in runs.log_of(tmp_path)
    )
    assert '1 updates were skipped in total' in runs.log_of(tmp_path)
    assert not list(tmp_path.glob('work/non_finite*'))


@pytest.mark.slow
def test_a_nan_inf_batch_within_accumulated_gradients_skips_one_update(tmp_path):
    cfg = poisoned(tmp_path, [1], length=12, images=48)
    cfg.optim_wrapper.accumulative_counts = 4
    runner = build_runner(cfg)
    runner.train()
    assert '1 consecutive, 1 in total' in runs.log_of(tmp_path)
    assert '1 updates were skipped in total' in runs.log_of(tmp_path)
    assert all(buffer.isfinite().all() for buffer in runner.model.buffers())


def test_nan_inf_steps_that_are_not_consecutive_do_not_stop_training(tmp_path):
    build_runner(poisoned(tmp_path, [1, 2, 4, 5, 7, 8], length=4)).train()
    assert '2 consecutive, 6 in total' in runs.log_of(tmp_path)


@pytest.mark.parametrize(
    'batch, contents',
    [
        (
            dict(inputs=[], data_samples=[DetDataSample(metainfo=dict(img_path='a/b.jpg'))]),
            'a/b.jpg',
        ),
        (torch.zeros(2), 'no image paths'),
    ],
)
def test_the_error_names_the_images_of_a_detectors_batch(batch, contents):
    hook = NonFiniteHook(limit=2)
    runner = SimpleNamespace(
        model=nn.BatchNorm2d(1),
        optim_wrapper=SimpleNamespace(skipped=torch.tensor(True), should_update=lambda: True),
        logger=logging.getLogger('test'), iter=7, epoch=1,
    )  # fmt: skip
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    hook.after_train_iter(runner, 0, batch)
    with pytest.raises(
        NonFiniteError, match=f'2 consecutive steps; the first batch contains {contents}; fix'
    ):
        hook.after_train_iter(runner, 1, dict(inputs=[], data_samples=[]))


@pytest.mark.slow
@with_scaling(None, DYNAMIC)
def test_all_ranks_skip_the_same_update(tmp_path, scaling):
    cfg = poisoned(tmp_path, [1, 3, 4, 5], rank=1, scaling=scaling, length=3, images=24)
    assert runs.finish(runs.start(cfg, 2, free_port())) == [1, 1]
    for rank in range(2):
        assert (tmp_path / f'work/non_finite_iter_4_rank_{rank}.pth').exists()
    assert '1 consecutive, 1 in total' in runs.log_of(tmp_path)
    weights = [
        read_checkpoint(tmp_path / f'work/non_finite_iter_4_rank_{rank}.pth')['state_dict']
        for rank in range(2)
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items()
               if name.endswith('weight'))  # fmt: skip


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
def test_a_skipped_update_is_counted_one_update_later_or_when_it_matters(device):
    layers = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to(device)
    on_gpu = device == 'cuda'
    optimizer = torch.optim.SGD(layers.parameters(), lr=0.1, momentum=0.9, fused=on_gpu or None)
    wrapper = FiniteOptimWrapper(optimizer=optimizer)
    runner = SimpleNamespace(
        model=layers, optim_wrapper=wrapper, logger=logging.getLogger('test'), iter=7, epoch=1
    )
    hook = NonFiniteHook(limit=3)
    hook.before_train(runner)
    inputs = torch.randn(4, 2, device=device)
    # the factors of updates, and the number of skipped updates that are known after them
    updates = [(1, 0), (torch.nan, 0), (1, 1), (torch.nan, 1), (torch.nan, 2)]

    def update(factor):
        hook.before_train_iter(runner, 0)
        wrapper.update_params(layers(inputs * factor).square().sum())
        hook.after_train_iter(runner, 0, dict(inputs=[], data_samples=[]))

    update(1)
    states = []
    if on_gpu:
        torch.cuda.set_sync_debug_mode('error')
    try:
        for factor, known in updates:
            states.append([buffer.clone() for buffer in layers.buffers()])
            update(factor)
            assert hook.total == known
    finally:
        if on_gpu:
            torch.cuda.set_sync_debug_mode('default')
    hook.before_save_checkpoint(runner, {})
    assert hook.total == 3
    with pytest.raises(NonFiniteError, match='3 consecutive steps'):
        update(torch.nan)
    assert hook.total == 4
    states.append(list(layers.buffers()))
    for (factor, _), before, after in zip(updates, states, states[1:]):
        same = [torch.equal(old, new) for old, new in zip(before, after)]
        assert same == [factor != 1] * 3


def update_all(settings, losses, factors, limit, **options):
    """Run iterations whose losses are multiplied by factors, and return the hook after each."""
    layer = nn.Linear(2, 1)
    wrapper = runs.Half(torch.optim.SGD(layer.parameters(), lr=0.1, **options), **settings)
    runner = SimpleNamespace(
        model=layer, optim_wrapper=wrapper, logger=logging.getLogger('test'), iter=7, epoch=1
    )
    hook = NonFiniteHook(limit)
    hook.before_train(runner)
    for loss, factor in zip(losses, factors):
        hook.before_train_iter(runner, 0)
        wrapper.update_params(layer(torch.ones(1, 2)).sum() * factor)
        hook.after_train_iter(runner, 0, None, dict(loss=torch.tensor(loss)))
        yield hook


@needs_scaler
@pytest.mark.parametrize('options', [pytest.param(dict(fused=True), marks=FUSED.marks), {}])
def test_updates_skipped_by_loss_scaling_are_counted_and_do_not_stop_training(options):
    """In float16, a skipped update is the normal way to halve a loss scale that is too large."""
    factors = (1, torch.inf, torch.inf, 1, torch.nan)
    totals = [hook.total for hook in update_all(DYNAMIC, [1.0] * 5, factors, 1, **options)]
    assert totals == [0, 1, 2, 2, 3]


@needs_scaler
@pytest.mark.parametrize(
    'settings, loss',
    [(DYNAMIC, torch.nan), (dict(scale=2.0, static=False), 1.0), (STATIC, 1.0)],
    ids=['NaN loss', 'small scale', 'static scale'],
)
def test_training_stops_if_a_smaller_loss_scale_cannot_help(settings, loss):
    updates = update_all(settings, [loss] * 2, [torch.inf] * 2, limit=2)
    assert next(updates).in_a_row == 1
    with pytest.raises(NonFiniteError, match='2 consecutive steps'):
        next(updates)
