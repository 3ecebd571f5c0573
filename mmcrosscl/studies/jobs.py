"""The commands of a job, and its result."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from mmengine.config import Config

from mmcrosscl.checkpoints import atomic_write, last_checkpoint
from mmcrosscl.engine import read_config
from mmcrosscl.engine.sources import pretrained_setting
from mmcrosscl.errors import EXIT_NON_FINITE, InputError, RunError
from mmcrosscl.visualization import read_scalars

from .arms import OWN
from .fine_tuning import Labels, fine_tuning_config
from .inputs import holds_other_parts, weight_files
from .plan import FINAL, PRETRAIN, SEARCH, Job
from .study import Study

METRICS = {'ap': 'coco/bbox_mAP', 'ap50': 'coco/bbox_mAP_50'}
RESULT = 'result.json'
# MMEngine's default scope and its reader of configs are not for several threads
config_lock = threading.Lock()
# runs a command of mmcrosscl with a log file, and raises an error if it fails
Execute = Callable[[list[str], Path], None]


def job_folder(work_dir: Path, job: Job) -> Path:
    """Return the folder of a job."""
    return work_dir / 'jobs' / job.id


def read_results(work_dir: Path, study: Study) -> dict[str, dict]:
    """Return the results of the jobs that are done, by the id of the job.

    If the study was extended by learning rates, a final job is done only if its rate is still the
    best one.
    """
    results: dict[str, dict] = {}
    # the searches of an arm come before its final jobs
    for job in study.plan.jobs():
        path = job_folder(work_dir, job) / RESULT
        if not path.is_file():
            continue
        result = json.loads(path.read_text())
        if job.kind == FINAL:
            best = study.plan.chosen(job, results)
            if best is None or (best.rate, best.length) != (result['rate'], result['length']):
                continue
        results[job.id] = result
    return results


def run_job(work_dir: Path, study: Study, job: Job, execute: Execute) -> dict:
    """Run a job, or the rest of it if it was interrupted, and write its result.

    Args:
        work_dir (Path): Folder of the study.
        study (Study): The study.
        job (Job): A job whose needs are done.
        execute (Execute): Runs a command.

    Returns:
        dict: The result: the fields of the job, the seconds that it took, and for a fine-tuning the
        AP and AP50 in percent.
    """
    begin = time.monotonic()
    folder = job_folder(work_dir, job)
    folder.mkdir(parents=True, exist_ok=True)
    result = dict(kind=job.kind, arm=job.arm, seed=job.seed, labels=job.labels)
    if job.kind == PRETRAIN:
        _pretrain(study, job, folder, execute)
    elif job.kind == SEARCH:
        result.update(rate=job.rate, length=job.length)
        result.update(_search(work_dir, study, job, folder, execute))
    else:
        result.update(_final(work_dir, study, job, folder, execute))
    # an interrupted job took longer than this; only the estimate of the remaining time uses it
    result['seconds'] = time.monotonic() - begin
    atomic_write(folder / RESULT, lambda path: path.write_text(json.dumps(result, indent=1)))
    if job.kind != PRETRAIN:
        _remove_weights(work_dir, study, Job(FINAL, job.arm, job.seed, job.labels))
    return result


def _pretrain(study: Study, job: Job, folder: Path, execute: Execute) -> None:
    arm = study.plan.arm(job.arm)
    words = ['pretrain', '--detector', study.detector, '--data', study.unlabeled]
    words += ['--work-dir', str(folder), '--iters', str(study.pretrain_iters)]
    # only arms with terms have this kind of job
    terms = cast(str, arm.terms)
    words += ['--batch-size', str(study.pretrain_batch), '--terms', terms, '--resume']
    if arm.weights is None:
        words.append('--from-scratch')
    elif arm.weights != OWN:
        words += ['--weights', arm.weights]
    if arm.changes is not None:
        words += ['--changes', arm.changes]
    execute([*words, '--cfg-options', f'randomness.seed={job.seed}'], folder)
    # the last checkpoint is kept for a longer pre-training
    for path in sorted(folder.glob('iter_*.pth'), key=lambda path: path.stat().st_mtime)[:-1]:
        path.unlink()


def _train(
    work_dir: Path, study: Study, job: Job, folder: Path, execute: Execute
) -> dict[str, float]:
    """Fine-tune a detector, and return its AP on the validation part."""
    config = folder / 'config.py'
    with config_lock:
        cfg = job_config(work_dir, study, job)
    atomic_write(config, lambda path: path.write_text(cfg.pretty_text))
    execute(['train', str(config), '--work-dir', str(folder), '--resume'], folder)
    return last_scores(folder)


def _search(work_dir: Path, study: Study, job: Job, folder: Path, execute: Execute) -> dict:
    try:
        return _train(work_dir, study, job, folder, execute)
    except RunError as error:
        if error.exit_status != EXIT_NON_FINITE:
            raise
        # the arm may have a lower rate that can be used
        return dict(ap=0.0, ap50=0.0, diverged=True)


def _final(work_dir: Path, study: Study, job: Job, folder: Path, execute: Execute) -> dict:
    results = read_results(work_dir, study)
    # the searches, which the job needs, are done
    best = cast(Job, study.plan.chosen(job, results))
    if results[best.id].get('diverged'):
        raise InputError(
            f'fine-tuning of {job.arm} with {job.labels} labels ended with NaN/Inf at each '
            'learning rate; extend the study with lower --rates'
        )
    trained = replace(best, seed=job.seed)
    # another rate may be chosen later, if the study is extended
    folder = folder / f'lr{best.rate:g}x{best.length}'
    folder.mkdir(exist_ok=True)
    source = job_folder(work_dir, best)
    if job.seed != best.seed:
        source = folder
        _train(work_dir, study, trained, folder, execute)
    tested = folder / 'test'
    words = [
        'test',
        str(source / 'config.py'),
        str(last_checkpoint(source)),
        '--work-dir',
        str(tested),
    ]
    # a job that was interrupted after the test would otherwise have two results
    shutil.rmtree(tested, ignore_errors=True)
    execute(words, folder)
    return dict(rate=best.rate, length=best.length, **_test_scores(tested))


def _remove_weights(work_dir: Path, study: Study, final: Job) -> None:
    """Remove the detectors that only a test needed, if it is done."""
    if final.id not in read_results(work_dir, study):
        return
    searches = [each for each in study.plan.needs(final) if each.kind == SEARCH]
    for each in (final, *(search for search in searches if search.seed == final.seed)):
        for weights in job_folder(work_dir, each).rglob('*.pth'):
            weights.unlink(missing_ok=True)


def job_config(work_dir: Path, study: Study, job: Job) -> Config:
    """Return the fine-tuning config of a job.

    Args:
        work_dir (Path): Folder of the study.
        study (Study): The study.
        job (Job): A job of the kind 'search'.
    """
    arm = study.plan.arm(job.arm)
    labels = work_dir.resolve() / 'labels'
    detector = read_config(study.detector)
    cfg = fine_tuning_config(
        detector,
        study.detector,
        study.classes,
        study.fine_tune_iters * job.length,
        train=Labels(str(labels / f'train.{job.seed}@{job.labels}.json'), study.train_images),
        val=Labels(str(labels / 'val.json'), study.train_images),
        test=Labels(str(labels / 'test.json'), study.test_images),
        batch_size=study.fine_tune_batch,
        keep_weights=arm.weights == OWN and arm.terms is None,
    )
    cfg.optim_wrapper.optimizer.lr = job.rate
    cfg.randomness = dict(seed=job.seed)
    # as in MMDetection, the heads start from load_from
    files = weight_files([arm], detector, study.detector)
    cfg.load_from = next((file for file in files if holds_other_parts(file, cfg)), None)
    if arm.terms is not None:
        folder = job_folder(work_dir.resolve(), Job(PRETRAIN, arm.name, job.seed))
        (cfg.pretrained,) = map(str, folder.glob('*_pretrained.pth'))
    elif files and (arm.weights != OWN or pretrained_setting(cfg) is None):
        cfg.pretrained = next(iter(files))
    return cfg


def last_scores(folder: Path) -> dict[str, float]:
    """Return the last AP and AP50 in percent that a training logged.

    Raises:
        InputError: If the log has no evaluation.
    """
    evaluations = read_scalars(folder).evaluation
    if not evaluations:
        raise InputError(f'{folder} has no evaluation in its log; remove the folder and rerun')
    return _scores(evaluations[-1])


def _test_scores(folder: Path) -> dict[str, float]:
    (path,) = folder.glob('*/*.json')
    return _scores(json.loads(path.read_text()))


def _scores(metrics: Mapping[str, float]) -> dict[str, float]:
    # MMDetection logs no AP if nothing was detected
    return {name: 100 * metrics.get(metric, 0.0) for name, metric in METRICS.items()}
