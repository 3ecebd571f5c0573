"""The state that the runner restores, and the checkpoints that it resumes from."""

import os
import re
import runpy
import signal
import sys
import warnings
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader, EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.utils import get_installed_path

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.engine import (
    DEFAULT_HOOKS,
    ResumableEpochLoop,
    ResumableIterLoop,
    ResumableRunner,
    build_runner,
    load_config,
)
from mmcrosscl.errors import InputError
from tests.engine import runs
from tests.engine.toys import toy
from tests.ports import free_port


@HOOKS.register_module()
class Crash(Hook):
    """Raises torch's error for a dead worker at an iteration."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            raise RuntimeError('DataLoader worker (pid 1) is killed by signal: Killed.')


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
    cfg = toy(tmp_path, scores=[0.5])
    cfg.default_hooks = dict(checkpoint=dict(save_best=save_best, rule='greater'))
    cfg.custom_hooks.append(dict(type='Interrupt'))
    assert build_runner(cfg).val() == {'score': 0.5}
    assert not list(tmp_path.rglob('*.pth'))


TORCHRUN = ('TORCHELASTIC_RESTART_COUNT', 'TORCHELASTIC_RUN_ID')
SLURM = ('SLURM_RESTART_COUNT', 'SLURM_JOB_ID')


@pytest.fixture(params=[TORCHRUN, SLURM], ids=['torchrun', 'Slurm'])
def attempt(request, tmp_path, monkeypatch):
    """Return a function that runs an attempt of a job and returns the epoch and iteration of
    the checkpoint that the attempt resumed from, or None.
    """
    count, name = request.param

    def attempt(number, crash=None, length=1, launch='job', **changes):
        monkeypatch.setenv(count, str(number))
        monkeypatch.setenv(name, launch)
        cfg = runs.tiny_run(tmp_path, length=length)
        cfg.custom_hooks = [] if crash is None else [dict(type='Crash', iteration=crash)]
        cfg.merge_from_dict(changes)
        runner = build_runner(cfg)
        try:
            runner.train()
        except RuntimeError:
            assert crash is not None
        resumed = re.search(r'resumed epoch: (\d+), iter: (\d+)', runs.log_of(tmp_path))
        return resumed and (int(resumed[1]), int(resumed[2]))

    return attempt


def test_a_restarted_job_resumes(attempt):
    assert attempt(0, length=1) is None
    assert attempt(1, length=2) == (1, 3)


def test_a_restarted_job_resumes_the_average_of_its_weights(attempt, tmp_path):
    average = dict(custom_hooks=[dict(type='EMAHook')])
    attempt(0, length=1, **average)
    before = read_checkpoint(tmp_path / 'work/epoch_1.pth')
    attempt(1, length=2, **average)
    after = read_checkpoint(tmp_path / 'work/epoch_2.pth')
    steps = [int(x['ema_state_dict']['steps']) for x in (before, after)]
    assert steps == [3, 6]


def test_a_restart_after_a_run_that_did_not_begin_is_no_resume(attempt, tmp_path):
    """torchrun gives all runs the id 'none', unless it is told otherwise."""
    attempt(0, launch='none')
    # the first attempt of a new run ends while it is built
    with pytest.raises(KeyError):
        attempt(0, launch='none', model=dict(type='Unknown'))
    assert attempt(1, launch='none') is None
    assert attempt(2, length=2, launch='none') == (1, 3)


def test_a_job_restarted_during_a_test_does_not_train_again(attempt, tmp_path):
    attempt(0, length=1)
    cfg = toy(tmp_path / 'work', scores=[0.5])
    cfg.custom_hooks.append(dict(type='Interrupt'))
    build_runner(cfg).val()
    assert attempt(1, length=2) == (1, 3)


def test_a_restarted_job_resumes_the_checkpoint_before_a_damaged_one(attempt, tmp_path):
    attempt(0, launch='old')
    assert attempt(0, length=2, resume=True) == (1, 3)
    path = tmp_path / 'work/epoch_2.pth'
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)
    assert attempt(1, length=2, resume=True) == (1, 3)


@pytest.mark.slow
def test_a_restarted_job_resumes_from_its_own_checkpoint_instead_of_load_from(attempt, tmp_path):
    begin = tmp_path / 'begin.pth'
    attempt(0, launch='old')
    (tmp_path / 'work/epoch_1.pth').rename(begin)
    resume = dict(resume=True, load_from=str(begin))
    assert attempt(0, length=2, **resume) == (1, 3)
    begin.unlink()
    assert attempt(1, length=3, **resume) == (2, 6)


@pytest.mark.slow
def test_a_job_restarted_before_its_first_checkpoint_loads_its_weights_again(attempt, tmp_path):
    begin = tmp_path / 'begin.pth'
    attempt(0, launch='old')
    (tmp_path / 'work/epoch_1.pth').rename(begin)
    load = dict(load_from=str(begin))
    assert attempt(0, crash=1, **load) is None
    assert attempt(1, **load) is None
    log = runs.log_of(tmp_path)
    assert f'Load checkpoint from {begin}' in log


def test_a_run_without_a_checkpoint_to_resume_from_starts_from_load_from(tmp_path):
    build_runner(runs.tiny_run(tmp_path / 'first', length=1)).train()
    begin = Path(tmp_path / 'first/work/epoch_1.pth')
    config = tmp_path / 'config.py'
    cfg = runs.tiny_run(tmp_path / 'second', length=1)
    cfg.load_from = str(begin)
    cfg.optim_wrapper.optimizer.lr = 0.0
    cfg.dump(config)
    runner = build_runner(load_config(config, resume=True))
    runner.train()
    assert f'Training starts from the weights of {begin}.' in runs.log_of(tmp_path / 'second')
    name = 'backbone.conv1.weight'
    state = read_checkpoint(begin)['state_dict']
    assert torch.equal(runner.model.state_dict()[name], state[name])
    # later, the run resumes
    runner = build_runner(load_config(config, resume=True, options={'train_cfg.max_epochs': 2}))
    runner.train()
    assert runner.epoch == 2


@pytest.mark.slow
def test_a_resume_without_a_name_uses_the_latest_run_in_the_work_dir(attempt):
    attempt(0, length=3, launch='old')
    attempt(0, length=1, launch='new')
    assert attempt(0, length=2, launch='newer', resume=True) == (1, 3)


@pytest.mark.slow
def test_a_restart_does_not_use_a_checkpoint_of_an_earlier_run(attempt, tmp_path):
    assert attempt(0, length=4, launch='old') is None
    weights = (tmp_path / 'work/epoch_4.pth').read_bytes()
    assert attempt(0, crash=1, length=2, launch='new') is None
    # before its first checkpoint, the job starts from scratch, not from epoch 4 of the earlier run
    assert attempt(1, crash=4, length=2, launch='new') is None
    # after its first checkpoint, the job resumes from this checkpoint
    assert attempt(2, length=2, launch='new') == (1, 3)
    assert (tmp_path / 'work/epoch_2.pth').exists()
    assert (tmp_path / 'work/epoch_4.pth').read_bytes() == weights


@pytest.mark.slow
def test_a_restart_of_a_resume_by_name_uses_no_later_checkpoint_of_another_run(attempt, tmp_path):
    attempt(0, length=3, launch='old')
    resume = dict(resume=True, load_from=str(tmp_path / 'work/epoch_1.pth'))
    assert attempt(0, crash=4, length=2, launch='new', **resume) == (1, 3)
    assert attempt(1, length=2, launch='new', **resume) == (1, 3)


def test_a_restart_without_a_marker_is_a_first_attempt(attempt):
    attempt(0, length=3, launch='old')
    assert attempt(1, length=2, launch='new') is None


@pytest.mark.parametrize('out_dir', ['{work}', '{work}/', '{work}/.', 'work', './work'])
def test_a_run_resumes_from_the_folder_of_its_checkpoints_however_it_is_spelled(
    tmp_path, monkeypatch, out_dir
):
    """MMEngine saves to ``work``, or to ``work/work`` if ``out_dir`` is another text."""
    for length in (1, 2):
        cfg = runs.tiny_run(tmp_path, length=length)
        cfg.default_hooks.checkpoint.out_dir = out_dir.format(work=tmp_path / 'work')
        cfg.resume = length == 2
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            build_runner(cfg).train()
    assert 'resumed epoch: 1, iter: 3' in runs.log_of(tmp_path)


def test_checkpoints_in_a_remote_store_are_refused(tmp_path):
    cfg = runs.tiny_run(tmp_path)
    cfg.default_hooks.checkpoint.out_dir = 's3://bucket/runs'
    with pytest.raises(InputError, match='cannot resume from checkpoints in s3://bucket/runs; set'):
        build_runner(cfg).train()


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
