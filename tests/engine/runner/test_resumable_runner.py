"""The state that the runner restores, the parts that it replaces, and errors."""

import os
import runpy
import signal
import sys
import warnings
from pathlib import Path

import pytest
from mmengine.runner import CheckpointLoader, EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.utils import get_installed_path

from mmcrosscl.engine import (
    DEFAULT_HOOKS,
    ResumableEpochLoop,
    ResumableIterLoop,
    ResumableRunner,
    build_runner,
)
from mmcrosscl.errors import InputError
from tests.engine import runs
from tests.engine.toys import toy
from tests.ports import free_port


def process_state():
    handlers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM, signal.SIGINT)
    return (
        dict(CheckpointLoader._schemes),
        os.environ.get('TORCH_FORCE_WEIGHTS_ONLY_LOAD'),
        [signal.getsignal(number) for number in handlers],
        sys.stdout,
        warnings.filters,
    )


@pytest.mark.parametrize('variable', [None, '0'])
@pytest.mark.parametrize('trust', [False, True])
@pytest.mark.parametrize('crash', [False, True])
def test_the_process_state_is_restored_after_building_and_training(
    tmp_path, monkeypatch, crash, trust, variable
):
    if variable is None:
        monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    else:
        monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', variable)
    before = process_state()
    cfg = runs.tiny_run(tmp_path, length=1)
    cfg.trust_checkpoints = trust
    cfg.custom_hooks = [dict(type='Crash', iteration=1)] if crash else []
    runner = build_runner(cfg)
    assert process_state() == before
    if crash:
        with pytest.raises(RuntimeError, match='data loading failed'):
            runner.train()
    else:
        runner.train()
    assert process_state() == before


def test_two_runs_of_a_process_share_nothing(tmp_path):
    runners = []
    for name in 'ab':
        cfg = runs.tiny_run(tmp_path / name, length=1)
        # the name in MMDetection's configs
        cfg.visualizer.name = 'visualizer'
        runners.append(build_runner(cfg))
    first, second = runners
    for part in ('logger', 'message_hub', 'visualizer'):
        assert getattr(first, part) is not getattr(second, part)
    for runner in (second, first):
        runner.train()
    for name in 'ab':
        assert len(runs.scalars(tmp_path / name)) == 3


LOOPS = {
    'text': (dict(type='EpochBasedTrainLoop', max_epochs=1), ResumableEpochLoop),
    'text with scope': (
        dict(type='mmengine.EpochBasedTrainLoop', max_epochs=1),
        ResumableEpochLoop,
    ),
    'class': (dict(type=EpochBasedTrainLoop, max_epochs=1), ResumableEpochLoop),
    'by epoch': (dict(by_epoch=True, max_epochs=1), ResumableEpochLoop),
    'iterations': (dict(type=IterBasedTrainLoop, max_iters=1), ResumableIterLoop),
    'by iteration': (dict(by_epoch=False, max_iters=1), ResumableIterLoop),
}  # fmt: skip


@pytest.mark.parametrize('name', LOOPS)
def test_mmengines_loops_are_replaced_however_they_are_named(tmp_path, name):
    settings, loop = LOOPS[name]
    cfg = runs.tiny_run(tmp_path)
    cfg.train_cfg = settings
    cfg.train_dataloader.timeout = 7
    runner = build_runner(cfg)
    assert type(runner.train_loop) is loop
    # the loop applies the time limit, because torch's timeout would hide dead workers
    assert runner.train_dataloader.timeout == 0


def test_default_hooks_are_merged_replaced_and_removed_by_name(tmp_path):
    cfg = runs.tiny_run(tmp_path)
    cfg.default_hooks = dict(
        non_finite=dict(limit=7), logger=dict(type='LoggerHook', interval=3), preemption=None,
        timer=None,
    )  # fmt: skip
    hooks = {type(hook).__name__: hook for hook in build_runner(cfg).hooks}
    assert hooks['NonFiniteHook'].limit == 7 and hooks['LoggerHook'].interval == 3
    assert hooks['SafeCheckpointHook'].max_keep_ckpts == 3
    removed = {'PreemptionHook', 'IterTimerHook'}
    kept = {hook['type'].rpartition('.')[2] for hook in DEFAULT_HOOKS.values()} - removed
    assert set(hooks) == kept | {'RuntimeInfoHook'}


@pytest.mark.parametrize('save_best', [None, 'score'])
def test_a_validation_without_training_saves_nothing(tmp_path, save_best):
    hooks = dict(checkpoint=dict(save_best=save_best, rule='greater'))
    interrupt = dict(type='Interrupt')
    cfg = toy(tmp_path, scores=[0.5], default_hooks=hooks, custom_hooks=[interrupt])
    assert build_runner(cfg).val() == {'score': 0.5}
    assert not list(tmp_path.rglob('*.pth'))


def test_too_few_images_for_a_batch_are_an_input_error(tmp_path):
    cfg = runs.tiny_run(tmp_path)
    cfg.train_dataloader.update(batch_size=99, drop_last=True)
    with pytest.raises(InputError, match='12 images do not fill a batch of 99 on each of 1 pro'):
        build_runner(cfg).train()


@pytest.mark.parametrize('checkpoint', ['http://127.0.0.1:{}/weights.pth', 'no/weights.pth'])
def test_missing_initial_weights_are_reported_before_the_data_is_indexed(
    tmp_path, monkeypatch, checkpoint
):
    cfg = runs.tiny_run(tmp_path)
    checkpoint = checkpoint.format(free_port())
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
    runner = build_runner(cfg)
    monkeypatch.setattr(runner, 'build_train_loop', lambda loop: pytest.fail('too late'))
    with pytest.raises(InputError, match=f'{checkpoint} (cannot be downloaded|does not exist)'):
        runner.train()


MMDET_TRAIN = Path(get_installed_path('mmdet'), '.mim/tools/train.py')


def mmdet_train(config: str, *arguments: str) -> None:
    """Run MMDetection's unmodified tools/train.py."""
    sys.argv = ['train.py', config, *arguments]
    runpy.run_path(str(MMDET_TRAIN), run_name='__main__')


def test_mmdetections_script_trains_without_workers_and_reports_an_empty_epoch(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, 'argv', [])
    monkeypatch.setenv('LOCAL_RANK', '0')
    cfg = runs.tiny_run(tmp_path, length=1)
    assert cfg.runner_type == 'mmcrosscl.ResumableRunner'
    cfg.train_dataloader.update(num_workers=0, persistent_workers=True, timeout=600)
    cfg.dump(tmp_path / 'run.py')
    mmdet_train(str(tmp_path / 'run.py'))
    assert (tmp_path / 'work/epoch_1.pth').exists()
    with pytest.raises(InputError, match='do not fill a batch'):
        mmdet_train(
            str(tmp_path / 'run.py'),
            '--cfg-options', 'train_dataloader.batch_size=99', 'train_dataloader.drop_last=True',
        )  # fmt: skip


def distributed_mmdet_train(rank: int, port: int, config: str) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES='',
    )  # fmt: skip
    mmdet_train(config, '--launcher', 'pytorch')


@pytest.mark.slow
def test_mmdetections_script_trains_two_processes_with_gloo(tmp_path):
    cfg = runs.tiny_run(tmp_path, length=1)
    cfg.dump(tmp_path / 'run.py')
    port = free_port()
    processes = [
        runs.context.Process(
            target=distributed_mmdet_train, args=(rank, port, str(tmp_path / 'run.py'))
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    assert runs.finish(processes) == [0, 0]
    assert (tmp_path / 'work/epoch_1.pth').exists()


def test_the_runner_is_the_default_for_other_configs(tmp_path):
    cfg = runs.tiny_run(tmp_path)
    cfg.pop('runner_type')
    assert type(build_runner(cfg)) is ResumableRunner
