"""Restarts by torchrun and Slurm."""

import json
import re

import pytest

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.engine import build_runner
from mmcrosscl.engine.runner.run_marker import LAUNCHES, RunMarker
from tests.engine import runs
from tests.engine.toys import toy

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
    build_runner(toy(tmp_path / 'work', scores=[0.5], custom_hooks=[dict(type='Interrupt')])).val()
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


@pytest.mark.parametrize('launcher, rank', [('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID')])
def test_only_one_process_writes_the_file(tmp_path, monkeypatch, launcher, rank):
    """Several processes that wrote it at once removed each other's temporary file."""
    for name in (*LAUNCHES, *LAUNCHES.values(), 'RANK', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    marker = RunMarker(tmp_path)

    def launch():
        return json.loads(marker.path.read_text())['launch']

    marker.begin([], resumes=False)
    begun = launch()
    monkeypatch.setenv(rank, '1')
    marker.end_earlier_run(launcher)
    assert launch() == begun
    # a run without a launcher in a task of Slurm, such as a job of a study
    marker.end_earlier_run('none')
    assert launch() == {}
    marker.restore_earlier_run()
    assert launch() == begun
    monkeypatch.setattr('mmcrosscl.engine.runner.run_marker.is_main_process', lambda: False)
    marker.note_validation(7)
    assert marker.validated() is None
