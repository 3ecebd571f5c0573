import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from torch import nn

from mmcrosscl.compat.fused_optimizer import supports_fused
from mmcrosscl.engine import (
    DeferredMessageHub,
    FiniteOptimWrapper,
    ResumableRunner,
    build_runner,
)
from mmcrosscl.engine.optim import non_finite_hook
from mmcrosscl.engine.runner import deferred_message_hub
from tests.engine import runs
from tests.engine.device_reads import DeviceReads

VALUES = [
    torch.tensor(0.1), torch.tensor([0.7]), 3, torch.tensor(float('nan')),
    torch.tensor(0.1, dtype=torch.float64), torch.tensor(0.1, dtype=torch.bfloat16),
    torch.tensor(2**60 + 1), torch.tensor(float('inf')), torch.tensor(True), 0.3,
]  # fmt: skip


@pytest.fixture
def hub(request):
    return DeferredMessageHub.get_instance(request.node.name)


def test_histories_equal_those_of_mmengine(hub, request):
    expected = MessageHub(f'{request.node.name}_expected')
    for first in range(2):
        for number, value in enumerate(VALUES[first:]):
            for each in (hub, expected):
                each.update_scalar('train/a', value, count=number + 1)
                each.update_scalars({'train/b': dict(value=value, count=2)}, resumed=False)
    for name in ('train/a', 'train/b'):
        for kept, wanted in zip(hub.get_scalar(name).data, expected.get_scalar(name).data):
            assert kept.dtype == wanted.dtype
            assert kept.tobytes() == wanted.tobytes()
    assert hub.state_dict()['log_scalars'].keys() == {'train/a'}


def test_values_are_read_when_they_are_used_and_only_then(hub):
    assert MessageHub.get_current_instance() is hub
    weight = nn.Parameter(torch.zeros(()))
    value = torch.zeros(())
    for number in range(3):
        value.fill_(number)
        hub.update_scalar('train/loss', value + weight)
        hub.update_scalar('train/acc', value)
        hub.update_scalar('train/time', float(number))

    def lengths():
        return {name: len(history.data[0]) for name, history in hub.read_scalars.items()}

    # the first value is read immediately, which fixes the order of the scalars
    unread = {'train/loss': 1, 'train/acc': 1, 'train/time': 3}
    assert list(lengths().items()) == list(unread.items())
    assert hub.get_scalar('train/time').data[0].tolist() == [0, 1, 2] and lengths() == unread
    assert hub.get_scalar('train/acc').data[0].tolist() == [0, 1, 2]
    assert lengths() == dict.fromkeys(unread, 3)
    hub.update_scalar('train/loss', value)
    assert len(hub.state_dict()['log_scalars']['train/loss'].data[0]) == 4
    hub.update_scalar('train/loss', value)
    assert len(hub.log_scalars['train/loss'].data[0]) == 5
    with pytest.raises(KeyError, match='train/other'):
        hub.get_scalar('train/other')
    with pytest.raises(AssertionError):
        hub.update_scalar('train/loss', torch.zeros(2))


def test_the_number_of_unread_values_is_limited(hub, monkeypatch):
    monkeypatch.setattr(deferred_message_hub, 'MOST_UNREAD', 4)
    for number in range(1, 10):
        hub.update_scalar('train/loss', torch.tensor(number))
        assert len(hub.read_scalars['train/loss'].data[0]) == 1 + 4 * ((number - 1) // 4)


def run(folder, length=8):
    # the log also has the end of the first epoch, unless it is longer than the interval
    cfg = runs.tiny_run(folder, by_epoch=False, length=length, images=20)
    cfg.default_hooks.logger.interval = 4
    cfg.optim_wrapper.clip_grad = dict(max_norm=1)
    return cfg


@pytest.mark.skipif(
    not supports_fused(torch.optim.SGD, 'cpu'),
    reason='this release of torch has no fused SGD for CPUs',
)
def test_training_reads_the_device_once_per_log(tmp_path, monkeypatch):
    reads = DeviceReads(monkeypatch)
    late = []

    def start_read(x):
        def read():
            late.append((number, len(reads.iterations)))
            return x.numpy()

        number = len(reads.iterations)
        return read

    monkeypatch.setattr(non_finite_hook, 'start_read', start_read)
    cfg = run(tmp_path, length=9)
    cfg.default_hooks.checkpoint.interval = 9
    runner = build_runner(cfg)
    reads.register(runner)
    with reads:
        runner.train()
    counts = [sum(places.values()) for places in reads.iterations]
    # The first value of a scalar is read immediately: 12 values, the number of updates of the key
    # encoder and the first update; at the first log, the mean gradient norm.
    assert counts[:8] == [14, 0, 0, 2, 0, 0, 0, 1], reads.iterations
    # whether an update was skipped is known one update later, or when a checkpoint is saved
    assert late == [*((i, i + 1) for i in range(1, 9)), (9, 9)]


def test_logs_and_checkpoints_are_the_same_as_with_mmengine(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ('deferred', 'mmengine')]
    for folder in folders:
        cfg = run(folder)
        cfg.log_processor.window_size = 3
        # a NaN/Inf step, whose values are logged
        cfg.custom_hooks = [dict(type='Poison', iterations=[6])]
        build_runner(cfg).train()
        monkeypatch.setattr(ResumableRunner, 'build_message_hub', Runner.build_message_hub)
    logs = [runs.scalars(folder) for folder in folders]
    assert [entry['step'] for entry in logs[0]] == [4, 8]
    assert repr(logs[0]) == repr(logs[1])
    for name in ('iter_3.pth', 'iter_6.pth', 'iter_8.pth'):
        runs.assert_same_state(*(folder / 'work' / name for folder in folders))


def test_the_norm_of_clipped_gradients_stays_on_the_device(hub):
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    wrapper = FiniteOptimWrapper(optimizer=optimizer, clip_grad=dict(max_norm=0.5))
    norms = []
    for factor in (1, 2, 3):
        loss = factor * layer(torch.ones(1, 2)).sum()
        norms.append(factor * 3**0.5)
        wrapper.update_params(loss)
    assert len(hub.read_scalars['train/grad_norm'].data[0]) == 1
    assert hub.get_scalar('train/grad_norm').data[0].tolist() == pytest.approx(norms)
