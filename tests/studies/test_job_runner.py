import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mmcrosscl.errors import InputError, RunError
from mmcrosscl.studies import create_study, job_runner, jobs
from mmcrosscl.studies import study as study_module
from mmcrosscl.studies.study import read_study, write_study
from tests.studies.data import write_data


def test_a_signal_while_a_job_starts_reaches_the_job(tmp_path, monkeypatch):
    runner = job_runner.StudyRunner(tmp_path, lambda: None)

    class Interrupted(subprocess.Popen):
        def __init__(self, command, **options):
            super().__init__(['sleep', '60'], **options)
            runner._stop(signal.SIGTERM, None)

    monkeypatch.setattr(job_runner.subprocess, 'Popen', Interrupted)
    began = time.monotonic()
    with (tmp_path / 'lock').open('w') as lock, pytest.raises(job_runner._Stopped):
        runner._execute([], tmp_path, None, lock)
    assert time.monotonic() - began < 30


def write_result(work_dir, study, job, execute):
    result = dict(ap=1.0, seconds=1.0, rate=job.rate, length=job.length)
    if job.kind == 'final':
        result['rate'] = min(study.rates)
    (jobs.job_folder(work_dir, job) / jobs.RESULT).write_text(json.dumps(result))


def test_a_worker_runs_the_jobs_of_an_extension(tmp_path, monkeypatch):
    settings = {**write_data(tmp_path), 'arms': ['random'], 'seeds': 1}
    work_dir = tmp_path / 'out'
    write_study(*create_study(**settings), work_dir)
    done = []

    def run_job(work_dir, study, job, execute):
        if not done:
            write_study(*create_study(**{**settings, 'rates': [1e-4, 1e-3]}), work_dir)
        done.append(job.id)
        write_result(work_dir, study, job, execute)

    monkeypatch.setattr(job_runner, 'run_job', run_job)
    job_runner.StudyRunner(work_dir, lambda: None).run()
    assert sorted(done) == sorted(job.id for job in read_study(work_dir).plan.jobs())
    assert 'search-random-12-lr0.0001-x2-seed0' in done


def test_a_worker_whose_device_fails_leaves_the_jobs_to_the_others(tmp_path, monkeypatch):
    work_dir = tmp_path / 'out'
    settings = {**write_data(tmp_path), 'arms': ['random', 'weights'], 'seeds': 1}
    monkeypatch.setattr(study_module, 'check_weights', lambda *args: None)
    study, files = create_study(**settings)
    write_study(study, files, work_dir)
    monkeypatch.setattr(job_runner, 'visible_devices', lambda: ['broken', 'good'])
    monkeypatch.setattr(job_runner, 'POLL', 0.1)

    def run_job(work_dir, study, job, execute):
        if execute.keywords['device'] == 'broken':
            raise RunError('no device')
        write_result(work_dir, study, job, execute)

    monkeypatch.setattr(job_runner, 'run_job', run_job)
    job_runner.StudyRunner(work_dir, lambda: None).run()
    assert len(jobs.read_results(work_dir, study)) == len(list(study.plan.jobs()))
    # without another worker, the errors remain
    monkeypatch.setattr(job_runner, 'visible_devices', lambda: ['broken'])
    for path in work_dir.glob('jobs/*/result.json'):
        path.unlink()
    with pytest.raises(RunError, match='5 of 5 jobs .* 3 failed; the first is .*: no device'):
        job_runner.StudyRunner(work_dir, lambda: None).run()


@pytest.mark.parametrize('devices', [[None], ['0', '1'], ['0', '0', '1', '1']])
def test_jobs_that_always_crash_do_not_stop_the_others(tmp_path, monkeypatch, devices):
    """The searches of the random weights crash, as if their learning rates were too high."""
    work_dir = tmp_path / 'out'
    settings = {**write_data(tmp_path), 'arms': ['random', 'weights'], 'seeds': 2}
    monkeypatch.setattr(study_module, 'check_weights', lambda *args: None)
    study, files = create_study(**settings)
    write_study(study, files, work_dir)
    monkeypatch.setattr(job_runner, 'visible_devices', lambda: devices)
    monkeypatch.setattr(job_runner, 'POLL', 0.1)
    tried = []

    def run_job(work_dir, study, job, execute):
        tried.append(job.id)
        if (job.kind, job.arm) == ('search', 'random'):
            error = RunError('a process was killed')
            error.exit_status = 137
            raise error
        write_result(work_dir, study, job, execute)

    monkeypatch.setattr(job_runner, 'run_job', run_job)
    with pytest.raises(RunError, match='4 of 7 jobs are not done, because 2 failed') as caught:
        job_runner.StudyRunner(work_dir, lambda: None).run()
    assert caught.value.exit_status == 137
    times = 1 if devices == [None] else 2
    assert sorted(tried) == sorted(
        times * ['search-random-12-lr0.001-seed0', 'search-random-12-lr0.001-x2-seed0']
        + ['search-weights-12-lr0.001-seed0', 'final-weights-12-seed0', 'final-weights-12-seed1']
    )


def test_a_changed_detector_ends_the_study(tmp_path, monkeypatch):
    settings = {**write_data(tmp_path), 'arms': ['random'], 'seeds': 1}
    detector = tmp_path / 'mine.py'
    detector.write_text(f"_base_ = '{Path(settings['detector']).resolve()}'\n")
    study, files = create_study(**{**settings, 'detector': detector})
    write_study(study, files, tmp_path / 'out')

    def run_job(work_dir, study, job, execute):
        write_result(work_dir, study, job, execute)
        detector.write_text(detector.read_text() + 'optim_wrapper = dict(clip_grad=None)\n')

    monkeypatch.setattr(job_runner, 'run_job', run_job)
    with pytest.raises(InputError, match=r'mine\.py has changed since the job search-random'):
        job_runner.StudyRunner(tmp_path / 'out', lambda: None).run()
    assert len(jobs.read_results(tmp_path / 'out', study)) == 1


def test_a_job_that_another_process_finished_is_not_reported_as_failed(tmp_path, monkeypatch):
    study, files = create_study(**write_data(tmp_path))
    write_study(study, files, tmp_path)
    runner = job_runner.StudyRunner(tmp_path, lambda: None)
    first, second, *_ = (job.id for job in study.plan.jobs())
    runner._failures.errors = {first: RunError('the disk is full'), second: RunError('no memory')}
    monkeypatch.setattr(job_runner, 'read_results', lambda *_: {first: {}})
    with pytest.raises(RunError, match=f'because 1 failed; the first is {second}: no memory'):
        runner._raise_failed()
    monkeypatch.setattr(job_runner, 'read_results', lambda *_: {first: {}, second: {}})
    runner._raise_failed()
