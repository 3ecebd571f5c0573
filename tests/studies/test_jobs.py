"""The config of a job, and what it leaves behind if it is interrupted at any point."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.engine import read_config
from mmcrosscl.errors import InputError, NonFiniteError, RunError
from mmcrosscl.studies import create_study, jobs
from mmcrosscl.studies.jobs import RESULT, job_config, job_folder, read_results, run_job
from mmcrosscl.studies.plan import FINAL, PRETRAIN, SEARCH, Job
from mmcrosscl.studies.publish import Results
from mmcrosscl.studies.study import write_study
from tests.evaluation.checkpoints import write_detector
from tests.studies.data import write_data


def execute(words: list[str], folder: Path) -> None:
    """Write the files of `mmcrosscl train` and `mmcrosscl test`."""
    if words[0] == 'train':
        checkpoint = folder / 'iter_2.pth'
        checkpoint.touch()
        (folder / 'last_checkpoint').write_text(str(checkpoint))
        log, step = folder / '1/vis_data/scalars.json', dict(step=2)
    else:
        assert Path(words[2]).is_file()
        log, step = folder / 'test/1/1.json', {}
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(json.dumps({'coco/bbox_mAP': 0.25, 'coco/bbox_mAP_50': 0.5, **step}))


def kill(words: list[str], folder: Path) -> None:
    raise RunError('killed')


def fail(path: Path, write: object) -> None:
    # the only other file of a final job is the config, of a seed without a search
    if path.name == RESULT:
        raise OSError(28, 'No space left on device')
    atomic_write(path, write)


@pytest.fixture(scope='module')
def settings(tmp_path_factory):
    return {
        **write_data(tmp_path_factory.mktemp('data')),
        'arms': ['random'],
        'rates': [1e-3, 2e-3],
    }


@pytest.mark.parametrize('seed', [0, 1])
def test_a_result_that_cannot_be_written_is_written_later(settings, tmp_path, monkeypatch, seed):
    """The weights are removed after the result is written."""
    study, files = create_study(**settings)
    write_study(study, files, tmp_path)
    (final,) = (job for job in study.plan.jobs() if (job.kind, job.seed) == (FINAL, seed))
    for job in study.plan.needs(final):
        run_job(tmp_path, study, job, execute)
    with monkeypatch.context() as full, pytest.raises(OSError, match='No space left'):
        full.setattr(jobs, 'atomic_write', fail)
        run_job(tmp_path, study, final, execute)
    assert not (job_folder(tmp_path, final) / RESULT).exists()
    result = run_job(tmp_path, study, final, execute)
    assert (result['ap'], result['ap50']) == (25, 50)
    assert (job_folder(tmp_path, final) / RESULT).is_file()
    # the searches belong to the first seed
    weights = [path.relative_to(tmp_path / 'jobs') for path in tmp_path.rglob('*.pth')]
    left = {path.parts[0].partition('-')[0] for path in weights}
    assert left == ({'search'} if seed else set())


@pytest.mark.parametrize('done', [True, False])
def test_a_study_that_is_extended_by_a_better_rate_is_tested_again(settings, tmp_path, done):
    study, files = create_study(**settings)
    write_study(study, files, tmp_path)
    for job in study.plan.jobs():
        run_job(tmp_path, study, job, execute)
    final = Job(FINAL, 'random', 1, 12)
    folder = job_folder(tmp_path, final)
    earlier = json.loads((folder / RESULT).read_text())
    # the lowest of equals
    assert (earlier['rate'], earlier['length']) == (1e-3, 1)
    if not done:
        (folder / RESULT).unlink()

    study, files = create_study(**{**settings, 'rates': [5e-4, *settings['rates']]})
    write_study(study, files, tmp_path)
    finals = {job.id for job in study.plan.jobs() if job.kind == FINAL}
    # without the new searches, no rate is chosen
    assert not finals & read_results(tmp_path, study).keys()
    searches = [job for job in study.plan.needs(final) if job.rate == 5e-4]
    for job in searches:
        run_job(tmp_path, study, job, execute)
    assert not finals & read_results(tmp_path, study).keys()
    trained = []

    def record(words: list[str], folder: Path) -> None:
        trained.append(folder)
        execute(words, folder)

    assert run_job(tmp_path, study, final, record)['rate'] == 5e-4
    # an interrupted training at another rate is not resumed
    assert trained == [folder / 'lr0.0005x1'] * 2
    assert read_config(str(trained[0] / 'config.py')).optim_wrapper.optimizer.lr == 5e-4
    assert final.id in read_results(tmp_path, study)
    # the test at the other rate is kept
    assert {path.parts[-4] for path in folder.rglob('test/1/1.json')} == {
        'lr0.001x1', 'lr0.0005x1'
    }  # fmt: skip
    assert not list(folder.rglob('*.pth'))


def test_an_extension_that_changes_no_choice_keeps_all_tests(settings, tmp_path):
    study, files = create_study(**settings)
    write_study(study, files, tmp_path)
    for job in study.plan.jobs():
        run_job(tmp_path, study, job, execute)
    before = read_results(tmp_path, study)
    study, files = create_study(**{**settings, 'rates': [*settings['rates'], 4e-3]})
    write_study(study, files, tmp_path)
    for job in study.plan.possible(before):
        if job.kind == SEARCH:
            run_job(tmp_path, study, job, execute)
    after = read_results(tmp_path, study)
    assert before.items() <= after.items() and not study.plan.possible(after)
    assert not list(tmp_path.rglob('*.pth'))


@pytest.mark.parametrize('terms', ['', 'crosscl+'])
@pytest.mark.parametrize('source', ['file', 'parallel', 'config', 'backbone', 'backbone, config'])
def test_the_heads_start_from_the_checkpoint_of_a_detector(settings, tmp_path, terms, source):
    weights = write_detector(tmp_path / 'coco.pth')
    state = torch.load(weights, weights_only=True)['state_dict']
    if source == 'parallel':
        torch.save({f'module.{name}': value for name, value in state.items()}, weights)
    start = weights
    if source.startswith('backbone'):
        parts = {n: value for n, value in state.items() if n.startswith(('backbone.', 'neck.'))}
        start = tmp_path / 'backbone.pth'
        torch.save(dict(state_dict=parts), start)
    arm = f'{terms}weights'
    detector = read_config(settings['detector'])
    if source.endswith('config'):
        detector.load_from, detector.pretrained = str(weights), None
        detector.dump(tmp_path / 'mine.py')
        settings = {**settings, 'detector': str(tmp_path / 'mine.py')}
    if source != 'config':
        arm += f'={start}'
    study, files = create_study(**{**settings, 'arms': ['random', arm]})
    write_study(study, files, tmp_path)
    name = study.plan.arms[1].name
    pretrained = start
    if terms:
        pretrained = job_folder(tmp_path, Job(PRETRAIN, name, 0)) / 'x_pretrained.pth'
        pretrained.parent.mkdir(parents=True)
        pretrained.touch()
    cfg = job_config(tmp_path, study, Job(SEARCH, name, 0, study.plan.labels[0], 1e-3))
    assert cfg.pretrained == str(pretrained)
    assert cfg.load_from == (None if source == 'backbone' else str(weights))
    if source == 'config' and not terms:
        # as in `mmcrosscl train`
        detector.pretrained = 'own.pth'
        detector.dump(tmp_path / 'mine.py')
        cfg = job_config(tmp_path, study, Job(SEARCH, name, 0, study.plan.labels[0], 1e-3))
        assert (cfg.pretrained, cfg.load_from) == ('own.pth', str(weights))
    random = job_config(tmp_path, study, Job(SEARCH, 'random', 0, study.plan.labels[0], 1e-3))
    assert random.load_from is None and 'pretrained' not in random


def test_a_learning_rate_that_diverges_is_not_chosen(settings, tmp_path):
    study, files = create_study(**settings)
    write_study(study, files, tmp_path)

    def diverge(words, folder):
        if f'lr{rate:g}' in folder.name:
            raise NonFiniteError('3 consecutive steps')
        execute(words, folder)

    final = next(job for job in study.plan.jobs() if job.kind == FINAL)
    searches = study.plan.needs(final)
    rate = 2e-3
    for job in searches:
        run_job(tmp_path, study, job, diverge)
    results = read_results(tmp_path, study)
    assert [results[job.id].get('diverged', False) for job in searches] == [
        job.rate == rate for job in searches
    ]
    assert run_job(tmp_path, study, final, execute)['rate'] == 1e-3
    (note,) = (
        note
        for note in Results(
            dict(study=asdict(study), expected=1, jobs=list(results.values()))
        ).notes()
        if 'NaN/Inf' in note
    )
    assert note.endswith('AP of 0: random with 12 at 0.002.')
    # no rate is left
    for job in searches:
        path = job_folder(tmp_path, job) / RESULT
        path.write_text(json.dumps({**json.loads(path.read_text()), 'ap': 0.0, 'diverged': True}))
    with pytest.raises(InputError, match='random with 12 labels ended with NaN/Inf at each'):
        run_job(tmp_path, study, final, execute)
    # a killed process is not a result
    with pytest.raises(RunError, match='killed'):
        run_job(tmp_path, study, searches[0], kill)
