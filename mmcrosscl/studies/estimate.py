"""Expected duration of a study, from timed steps on this machine."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS, MODELS, DefaultScope

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.datasets import UnlabeledDataset
from mmcrosscl.detectors import (
    Schedule,
    choose_view_size,
    config_text,
    dry_run,
    find_detector,
    seconds_per_iteration,
)
from mmcrosscl.engine import load_config, merge_changes, read_config

from .arms import Arm
from .fine_tuning import Labels, fine_tuning_config
from .jobs import read_results
from .plan import FINAL, PRETRAIN, SEARCH, Job
from .study import Study

# file with the seconds of a job by its group
ESTIMATE = 'estimate.json'
# start of a process, which imports torch and MMDetection and builds the datasets
START = 15.0


def write_estimate(work_dir: Path, study: Study) -> None:
    """Time the steps of a study, unless this was done for each of its arms."""
    path = work_dir / ESTIMATE
    if {job.group for job in study.plan.jobs()} <= _estimated(work_dir).keys():
        return
    seconds = estimate(work_dir, study)
    atomic_write(path, lambda path: path.write_text(json.dumps(seconds)))


def expected_seconds(work_dir: Path, study: Study) -> float:
    """Return the seconds that all jobs are expected to take."""
    seconds = _estimated(work_dir)
    return sum(seconds.get(job.group, 0) for job in study.plan.jobs())


def _estimated(work_dir: Path) -> dict[str, float]:
    path = work_dir / ESTIMATE
    return json.loads(path.read_text()) if path.is_file() else {}


def remaining_seconds(work_dir: Path, study: Study) -> float:
    """Return the time that the jobs that are not done take, as the done jobs of their group did."""
    results = read_results(work_dir, study)
    jobs = list(study.plan.jobs())
    seconds: dict[str, list[float]] = {}
    for job in jobs:
        if job.id in results:
            seconds.setdefault(job.group, []).append(results[job.id]['seconds'])
    means = _estimated(work_dir)
    means.update({group: sum(times) / len(times) for group, times in seconds.items()})
    return sum(means.get(job.group, 0) for job in jobs if job.id not in results)


def estimate(work_dir: Path, study: Study) -> dict[str, float]:
    """Time a step of each kind of job, and return the mean seconds of a job by :attr:`Job.group`.

    Args:
        work_dir (Path): Folder of the study, with its label files.
        study (Study): The study.

    Raises:
        InputError: If the detector cannot be built or pre-trained, or if its precision needs a GPU
            and there is none.
    """
    plan = study.plan
    steps = _pretrain_steps(study, [arm for arm in plan.arms if arm.terms is not None])
    seconds = {
        Job(PRETRAIN, name, 0).group: START + study.pretrain_iters * step
        for name, step in steps.items()
    }
    labels = work_dir.resolve() / 'labels'
    val, test = (
        Labels(str(labels / f'{split}.json'), folder)
        for split, folder in (('val', study.train_images), ('test', study.test_images))
    )
    cfg = fine_tuning_config(
        read_config(study.detector),
        study.detector,
        study.classes,
        study.fine_tune_iters,
        train=Labels(str(labels / f'train.0@{max(study.labels)}.json'), study.train_images),
        val=val,
        test=test,
        batch_size=study.fine_tune_batch,
    )
    step, image, counts = _detector_step(cfg)
    searches = [job for job in plan.jobs() if job.kind == SEARCH]
    length = sum(job.length for job in searches) / len(searches)
    seconds[SEARCH] = START + length * study.fine_tune_iters * step + image * counts['val']
    # the detector of the first seed is already trained
    share = (study.seeds - 1) / study.seeds
    seconds[FINAL] = START + share * seconds[SEARCH] + image * counts['test']
    # the jobs use the same GPU
    torch.cuda.empty_cache()
    return seconds


def _pretrain_steps(study: Study, arms: Sequence[Arm]) -> dict[str, float]:
    """Return the seconds of a pre-training step by name of the arm, for arms with terms."""
    if not arms:
        return {}
    parts = find_detector(read_config(study.detector), study.detector, keep_weights=False)
    pool = UnlabeledDataset(data_root=study.unlabeled)
    features = dry_run(parts, choose_view_size(pool))
    schedule = Schedule(study.pretrain_iters, study.pretrain_batch, workers=1)
    steps = {}
    for arm in arms:
        terms = cast(str, arm.terms)
        text = config_text(parts, features, study.unlabeled, len(pool), schedule, terms)
        if arm.changes is not None:
            text = merge_changes(text, arm.changes)
        with TemporaryDirectory() as temporary:
            path = Path(temporary, 'pretrain.py')
            path.write_text(text)
            cfg = load_config(path, work_dir=temporary)
        steps[arm.name] = seconds_per_iteration(cfg, pool)
    return steps


def _detector_step(cfg: Config) -> tuple[float, float, dict[str, int]]:
    """Return the seconds of a training step and of a test image, and the numbers of images."""
    with (
        DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')),
        torch.random.fork_rng(devices=[]),
    ):
        datasets = {
            split: DATASETS.build(cfg[f'{split}_dataloader'].dataset)
            for split in ('train', 'val', 'test')
        }
        model = MODELS.build(cfg.model).to(get_device())
        size = cfg.train_dataloader.batch_size
        train = datasets['train']
        batch = pseudo_collate([train[index % len(train)] for index in range(size)])
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            data = model.data_preprocessor(batch, True)
            loss, _ = model.parse_losses(model(**data, mode='loss'))
            loss.backward()
            times.append(_elapsed(begin))
        model.eval()
        batch = pseudo_collate([datasets['test'][0]])
        with torch.no_grad():
            for _ in range(2):
                begin = time.perf_counter()
                model.test_step(batch)
                image = _elapsed(begin)
    return min(times), image, {split: len(dataset) for split, dataset in datasets.items()}


def _elapsed(begin: float) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def format_hours(seconds: float) -> str:
    """Return a duration in hours and minutes."""
    minutes = round(seconds / 60)
    return f'{minutes // 60} h {minutes % 60:02d} min' if minutes >= 60 else f'{minutes} min'
