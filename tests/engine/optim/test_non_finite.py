import copy
import json
import logging
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.cli import main
from mmcrosscl.compat.fused_optimizer import supports_fused
from mmcrosscl.engine import FiniteOptimWrapper, NonFiniteHook, build_runner, replay
from mmcrosscl.errors import InputError, NonFiniteError
from mmcrosscl.models import KeyQueue
from tests.engine import runs
from tests.engine.toys import TinyNet, toy, train
from tests.ports import free_port

needs_scaler = pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'), reason='torch before 2.3 scales losses on GPUs only'
)
DYNAMIC = dict(scale=2.0**10, static=False)
STATIC = dict(scale=2.0**10, static=True)


def poisoned(folder, iterations, rank=0, limit=3, scaling=None, **settings):
    cfg = runs.tiny_run(folder, **settings)
    cfg.custom_hooks = [dict(type='Poison', iterations=iterations, rank=rank)]
    if scaling is not None:
        cfg.custom_hooks.append(dict(type='ScaleLoss', **scaling))
        # the runner removes this setting if the config scales the loss
        del cfg.optim_wrapper.optimizer['fused']
    cfg.default_hooks.non_finite.limit = limit
    return cfg


def log_of(folder):
    return next(folder.glob('work/*/*.log')).read_text()


def tensors(path):
    """Return the weights, buffers and momentum buffers of a checkpoint."""
    state = read_checkpoint(path)
    weights = dict(state['state_dict'])
    for number, moments in state['optimizer']['state'].items():
        weights[f'momentum.{number}'] = moments['momentum_buffer']
    return weights


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
        '(1 consecutive, 1 in total).' in log_of(tmp_path)
    )
    assert '1 updates were skipped in total' in log_of(tmp_path)
    assert not list(tmp_path.glob('work/non_finite*'))


@pytest.mark.slow
def test_a_nan_inf_batch_within_accumulated_gradients_skips_one_update(tmp_path):
    cfg = poisoned(tmp_path, [1], length=12, images=48)
    cfg.optim_wrapper.accumulative_counts = 4
    runner = build_runner(cfg)
    runner.train()
    assert '1 consecutive, 1 in total' in log_of(tmp_path)
    assert '1 updates were skipped in total' in log_of(tmp_path)
    assert all(buffer.isfinite().all() for buffer in runner.model.buffers())


def test_nan_inf_steps_that_are_not_consecutive_do_not_stop_training(tmp_path):
    build_runner(poisoned(tmp_path, [1, 2, 4, 5, 7, 8], length=4)).train()
    assert '2 consecutive, 6 in total' in log_of(tmp_path)


def test_consecutive_nan_inf_steps_stop_training_and_can_be_replayed(tmp_path, monkeypatch, capsys):
    cfg = poisoned(tmp_path, [], length=9)
    # weights of 1e30 are finite, but the results computed from them are not
    cfg.optim_wrapper.optimizer.lr = 1e30
    cfg.param_scheduler = [dict(type='ConstantLR', factor=1e-40, end=4, by_epoch=False)]
    runner = build_runner(cfg)
    with pytest.raises(
        NonFiniteError, match='3 consecutive steps; inspect the first of them with: mmcrosscl'
    ):
        runner.train()
    iteration = int(re.search(r'in iteration (\d+): the update is skipped', log_of(tmp_path))[1])
    for path in tmp_path.glob('work/epoch_*.pth'):
        assert all(value.isfinite().all() for value in tensors(path).values())

    record = tmp_path / f'work/non_finite_iter_{iteration}_rank_0.pth'
    readable = json.loads(record.with_suffix('.json').read_text())
    assert readable['iter'] == iteration - 1 and readable['rank'] == 0
    for sample in readable['samples']:
        assert sample['img_path'].startswith(str(tmp_path / 'photos'))
        assert np.shape(sample['crops']) == (2, 4) and np.shape(sample['key_regions'])[1] == 4
        assert sample['sample_idx']['position'] == 4 * (iteration - 1) % 12 + readable[
            'samples'
        ].index(sample)
    text = replay(cfg, record)
    assert 'loss_global: nan' in text or 'loss_p4_p4: nan' in text or 'loss: nan' in text
    assert re.search(r'first NaN/Inf output: (?!none)', text)
    assert re.search(r'NaN/Inf gradients: [1-9]\d* of \d+: ', text)
    assert readable['samples'][0]['img_path'] in text
    half = copy.deepcopy(cfg)
    half.optim_wrapper = dict(type='AmpOptimWrapper', optimizer=cfg.optim_wrapper.optimizer)
    assert replay(half, record) == text

    config = tmp_path / 'run.py'
    cfg.dump(config)
    monkeypatch.setenv('LOCAL_RANK', '0')
    assert main(['replay', str(config), str(record)]) == 0
    assert text in capsys.readouterr().out


def test_a_finite_step_replays_without_nan_inf(tmp_path):
    cfg = poisoned(tmp_path, [1], limit=1)
    cfg.train_dataloader.dataset.pipeline[3].on_device = True
    cfg.train_dataloader.dataset.pipeline[4].on_device = True
    with pytest.raises(NonFiniteError):
        build_runner(cfg).train()
    text = replay(cfg, tmp_path / 'work/non_finite_iter_2_rank_0.pth')
    assert 'first NaN/Inf output: none' in text
    assert 'NaN/Inf gradients: 0 of' in text


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
    assert '1 consecutive, 1 in total' in log_of(tmp_path)
    weights = [
        read_checkpoint(tmp_path / f'work/non_finite_iter_4_rank_{rank}.pth')['state_dict']
        for rank in range(2)
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items()
               if name.endswith('weight'))  # fmt: skip


def test_the_replay_refuses_other_files(tmp_path):
    torch.save({'state_dict': {}}, tmp_path / 'x.pth')
    cfg = runs.tiny_run(tmp_path)
    with pytest.raises(InputError, match='has no inputs, meta, samples; pass a non_finite_iter_'):
        replay(cfg, tmp_path / 'x.pth')


FUSED = pytest.param(
    True,
    marks=pytest.mark.skipif(
        not supports_fused(torch.optim.SGD, 'cpu'),
        reason='this release of torch has no fused SGD for CPUs',
    ),
)


def wrapped(fused, momentum=0.9):
    layer = nn.Linear(2, 1).double()
    settings = dict(lr=0.01, momentum=momentum, weight_decay=0.01)
    if fused:
        settings['fused'] = True
    return layer, FiniteOptimWrapper(optimizer=torch.optim.SGD(layer.parameters(), **settings))


@pytest.mark.parametrize('fused', [FUSED, False])
@pytest.mark.parametrize('bad', [[0], [1], [0, 1, 3], [2, 3]])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('where', ['loss', 'gradient'])
def test_a_skipped_update_changes_nothing(where, value, bad, fused):
    """A NaN/Inf loss may have finite gradients, and a finite loss may have NaN/Inf gradients."""
    layer, wrapper = wrapped(fused)
    twin, plain = wrapped(False)
    twin.load_state_dict(layer.state_dict())
    factor = 1.0
    layer.weight.register_hook(lambda gradient: gradient * factor)
    for step in range(5):
        x = torch.tensor([[1.0, step]], dtype=torch.double)
        factor = value if step in bad and where == 'gradient' else 1.0
        loss = layer(x).square().sum()
        wrapper.update_params(loss + (value if step in bad and where == 'loss' else 0))
        assert wrapper.skipped == (step in bad)
        if step not in bad:
            plain.update_params(twin(x).square().sum())
        assert torch.allclose(layer.weight, twin.weight)
        assert torch.allclose(layer.bias, twin.bias)


@pytest.mark.gpu
def test_a_fused_update_does_not_synchronize_with_the_gpu():
    layer = nn.Linear(2, 1).cuda()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, fused=True)
    wrapper = FiniteOptimWrapper(optimizer=optimizer)
    x = torch.ones(1, 2).cuda()
    wrapper.update_params(layer(x).sum())
    before = layer.weight.clone()
    torch.cuda.set_sync_debug_mode('error')
    try:
        wrapper.update_params(layer(x).sum() * torch.nan)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert wrapper.skipped and torch.equal(layer.weight, before)


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


def test_the_queue_rejects_nan_inf_keys():
    queue = KeyQueue(3, 8)
    before = queue.keys.clone()
    keys = torch.ones(4, 3)
    keys[1, 2], keys[3, 0] = torch.nan, torch.inf
    queue.enqueue(keys)
    assert torch.equal(queue.keys[[0, 2]], keys[[0, 2]])
    assert torch.equal(queue.keys[[1, 3]], before[[1, 3]])
    assert queue.pointer == 4


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


@pytest.mark.parametrize('priority', [40, 49, 51])
def test_an_average_of_the_buffers_stays_finite(tmp_path, priority):
    """MMDetection's EMAHook of RTMDet and YOLOX has the priority 49."""
    average = dict(type='EMAHook', update_buffers=True, momentum=0.1, priority=priority)
    cfg = toy(tmp_path, custom_hooks=[average])
    cfg.train_dataloader.dataset.bad = [9]
    train(cfg)
    checkpoint = read_checkpoint(tmp_path / 'epoch_3.pth')
    for name, value in {**checkpoint['state_dict'], **checkpoint['ema_state_dict']}.items():
        assert value.isfinite().all(), name


def test_statistics_that_a_hook_replaces_stay_finite(tmp_path):
    precise = dict(type='mmpretrain.PreciseBNHook', num_samples=8, interval=1, priority='LOW')
    cfg = toy(tmp_path, custom_hooks=[precise])
    runner = build_runner(cfg)
    dataset = runner.train_dataloader.dataset

    class Spoil(Hook):
        def before_train_epoch(self, runner):
            dataset.bad = [9] if runner.epoch == 1 else []

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            assert runner.model.norm.running_mean.isfinite().all()

    runner.register_hook(Spoil(), priority='VERY_LOW')
    runner.train()
    assert runner.optim_wrapper.skipped is not None and runner.epoch == 3


def test_several_optimizers_are_trained(tmp_path):
    """Such a wrapper has no `should_update`, and the hook has no effect."""
    cfg = toy(tmp_path)
    cfg.optim_wrapper = dict(constructor='NamedOptimizers')
    cfg.model.type = 'ManyOptimizers'
    runner = train(cfg)
    assert runner.iter == 12 and read_checkpoint(tmp_path / 'epoch_3.pth')['optimizer']


@MODELS.register_module()
class ManyOptimizers(TinyNet):
    """A model whose optimizers have names."""

    def train_step(self, data, optim_wrapper):
        loss = self(**self.data_preprocessor(data, True), mode='loss')['loss']
        optim_wrapper['all'].update_params(loss)
        return dict(loss=loss.detach())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NamedOptimizers:
    """Builds optimizers with names."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        pass

    def __call__(self, model):
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        return OptimWrapperDict(all=OptimWrapper(sgd))
