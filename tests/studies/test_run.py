import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mmcrosscl.cli import main
from mmcrosscl.errors import EXIT_INPUT, InputError, RunError
from mmcrosscl.studies import (
    estimate,
    job_runner,
    locks,
    publish,
    read_results_file,
    run_study,
)
from tests.evaluation.checkpoints import write_crosscl
from tests.studies.data import write_data


@pytest.mark.slow(120)
def test_a_study_is_interrupted_resumed_and_reported(tmp_path, monkeypatch):
    settings = {**write_data(tmp_path), 'arms': ['crosscl']}
    out = tmp_path / 'out'
    words = ['study', '--work-dir', str(out)]
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        words += [f'--{name.replace("_", "-")}', *map(str, values)]
    process = subprocess.Popen(
        [sys.executable, '-m', 'mmcrosscl', *words], stdout=subprocess.PIPE, text=True
    )
    # interrupted in the second job
    while len(list(out.glob('jobs/*/result.json'))) < 1 or len(list(out.glob('jobs/*'))) < 2:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    # the results are written after each job
    assert len(json.loads((out / 'results.json').read_text())['jobs']) == 1
    os.kill(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 75
    assert '5 jobs on 1 device: about ' in said
    results = read_results_file(out / 'results.json')
    assert any('The study is not finished' in note for note in results.notes())
    done = {path: path.stat().st_mtime_ns for path in out.glob('jobs/*/result.json')}

    # two jobs run at the same time
    monkeypatch.setattr(job_runner, 'visible_devices', lambda: ['0', '0'])
    text = run_study(out)
    # finished jobs do not run again
    assert done and all(path.stat().st_mtime_ns == time for path, time in done.items())
    contents = json.loads((out / 'results.json').read_text())
    final = {(j['arm'], j['seed']) for j in contents['jobs'] if j['kind'] == 'final'}
    assert final == {('crosscl', 0), ('crosscl', 1)}
    assert 'The study is not finished' not in text
    assert '| 12 | crosscl | ' in text and ' were expected.' in text
    # no weights are left but those of the pre-training
    weights = [path.relative_to(out / 'jobs') for path in out.rglob('*.pth')]
    assert {path.parts[0].split('-')[0] for path in weights} == {'pretrain'}
    # pre-trained detectors start from their pre-training
    log = (out / 'jobs/final-crosscl-12-seed1/lr0.001x1/output.log').read_text()
    assert 'jobs/pretrain-crosscl-seed1/' in log

    # everything is written again from the results file
    assert main(['study', '--work-dir', str(tmp_path / 'again'), '--results',
                 str(out / 'results.json')]) == 0  # fmt: skip
    for name in ('results.md', 'report.html'):
        assert (tmp_path / 'again' / name).read_text() == (out / name).read_text()


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp('results')
    study = dict(
        detector='<script>alert(1)</script>.py', unlabeled='u', train='t', train_images='t',
        test='e', test_images='e', arms=['random', 'crosscl', 'weights=/gone/a.pth'],
        labels=[50, 200], seeds=3, rates=[0.1, 0.2, 0.4], pretrain_iters=10, pretrain_batch=4,
        fine_tune_iters=5, fine_tune_batch=2, classes=['cat'],
    )  # fmt: skip
    jobs = [
        dict(kind='final', arm=arm, seed=seed, labels=labels, rate=rate, length=1, seconds=60,
             ap=base + seed + labels / 100, ap50=2 * base)
        for arm, base, rate in (('random', 1.0, 0.2), ('crosscl', 3.0, 0.4))
        for labels in (50, 200)
        for seed in range(3)
    ]  # fmt: skip
    path = folder / 'results.json'
    path.write_text(json.dumps(dict(study=study, expected=100.0, jobs=jobs)))
    return path


def test_the_tables_have_means_intervals_and_verdicts(results, tmp_path):
    table, plot, page = publish(read_results_file(results), tmp_path)
    text = table.read_text()
    # means of 1, 2 and 3 plus 0.5, with 2.48 on both sides
    assert '| 50 | random | 2.5 [0.0, 5.0] | 2.0 [1.9, 2.1] | 0.2 | 3 |' in text
    assert '| 50 | crosscl | random | +2.0 [+1.9, +2.1] | better |' in text
    assert 'for these arms and numbers of labels: crosscl with 50, 200.' in text
    assert plot.read_bytes().startswith(b'\x89PNG')
    html = page.read_text()
    assert '<script' not in html and '&lt;script&gt;alert(1)&lt;/script&gt;.py' in html
    assert '2.5 [0.0, 5.0]' in html


@pytest.mark.parametrize(
    'text', ['', '[]', '{"study": {}, "jobs": []}', '{"study": []}', '{"jobs": []}']
)
def test_a_file_that_is_no_results_file_is_refused(tmp_path, text):
    (tmp_path / 'results.json').write_text(text)
    with pytest.raises(InputError, match=r'is not a results file of a study'):
        read_results_file(tmp_path / 'results.json')


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(InputError, match='contains no study; pass --detector'):
        run_study(tmp_path)


def test_settings_are_not_ignored_when_a_study_is_resumed(tmp_path, capsys):
    words = ['study', '--work-dir', str(tmp_path), '--seeds', '5']
    assert main(words) == 1
    assert 'error: --detector is missing; pass it, or only --work-dir' in capsys.readouterr().err


@pytest.mark.slow(60)
def test_the_jobs_that_do_not_need_a_failed_one_run(tmp_path, monkeypatch, capsys):
    settings = write_data(tmp_path)
    changes = tmp_path / 'bad.py'
    changes.write_text('model = dict(momentum=2.0)')
    monkeypatch.setattr(job_runner, 'visible_devices', lambda: ['0', '0'])
    monkeypatch.setattr(estimate, 'estimate', lambda work_dir, study: {})
    settings = {**settings, 'arms': [f'crosscl@{changes}', 'random'], 'seeds': 1}
    with pytest.raises(RunError) as error:
        run_study(tmp_path / 'out', settings)
    # the search and the test of the arm need its pre-training
    assert str(error.value).startswith(
        '3 of 6 jobs are not done, because 1 failed; the first is pretrain-crosscl@bad-seed0: '
    )
    assert 'momentum' in str(error.value) and error.value.exit_status == EXIT_INPUT
    results = read_results_file(tmp_path / 'out/results.json')
    assert [job['kind'] for job in results.jobs] == ['search', 'search', 'final']
    assert 'job pretrain-crosscl@bad-seed0 failed: ' in capsys.readouterr().out

    # no finished job has read the file, so it may be corrected
    changes.write_text('model = dict(momentum=0.01)')
    assert 'The study is not finished' not in run_study(tmp_path / 'out')
    assert len(read_results_file(tmp_path / 'out/results.json').jobs) == 6


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(locks.fcntl, 'flock', flock)
    settings = write_data(tmp_path)
    with pytest.raises(InputError, match=r'out/lock cannot be locked: .*; set --work-dir to a'):
        run_study(tmp_path / 'out', settings)


@pytest.mark.parametrize('contents', ['no checkpoint', 'another backbone'])
def test_a_checkpoint_that_does_not_fit_is_refused_before_a_study_is_written(tmp_path, contents):
    weights = tmp_path / 'a.pth'
    if contents == 'no checkpoint':
        weights.write_text(contents)
    else:
        write_crosscl(weights, width=16)
    settings = {**write_data(tmp_path), 'arms': ['random', f'weights={weights}']}
    with pytest.raises(InputError, match=r'a\.pth in --arms: '):
        run_study(tmp_path / 'out', settings)
    assert not (tmp_path / 'out').exists()
