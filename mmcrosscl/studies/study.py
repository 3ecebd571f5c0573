"""Settings and files of a study."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.datasets import (
    UnlabeledDataset,
    absolute,
    check_leaks,
    find_images,
    label_subsets,
    read_coco,
    select_images,
    write_coco,
)
from mmcrosscl.detectors import default_iterations
from mmcrosscl.engine import read_config
from mmcrosscl.errors import InputError, check_at_least_one

from .arms import check_files, parse_arm
from .fine_tuning import check_config, learning_rate, loads_masks
from .inputs import check_weights
from .labels import class_names, unify_labels
from .plan import Plan

# file with the settings
STUDY = 'study.json'
# share of the labeled training images that only choose the learning rates
VALIDATION = 0.2
# multiples of the detector's learning rate that are tried
FACTORS = (0.25, 0.5, 1.0, 2.0)
BATCH_SIZE = 32


@dataclass(frozen=True)
class Study:
    """Settings of a study, which its work dir keeps.

    Attributes:
        detector: Config of the detector.
        unlabeled: Folder of images without labels.
        train: COCO file of the labeled training images.
        train_images: Folder of its images.
        test: COCO file of the test images.
        test_images: Folder of its images.
        arms: Arms in the syntax of :func:`parse_arm`.
        labels: Numbers of labeled images.
        seeds: Number of seeds.
        rates: Learning rates of the search.
        pretrain_iters: Iterations of each pre-training.
        pretrain_batch: Images per iteration of the pre-training.
        fine_tune_iters: Iterations of each fine-tuning.
        fine_tune_batch: Images per iteration of the fine-tuning.
        classes: Names of the classes.
    """

    detector: str
    unlabeled: str
    train: str
    train_images: str
    test: str
    test_images: str
    arms: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: int
    rates: tuple[float, ...]
    pretrain_iters: int
    pretrain_batch: int
    fine_tune_iters: int
    fine_tune_batch: int
    classes: tuple[str, ...]

    @property
    def plan(self) -> Plan:
        """The jobs of the study."""
        arms = tuple(map(parse_arm, self.arms))
        return Plan(arms, self.labels, self.seeds, self.rates)

    def to_json(self) -> str:
        """Return the contents of ``study.json``."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> 'Study':
        """Read the contents of ``study.json``."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()
        }
        return cls(**values)


def create_study(
    detector: str | Path,
    unlabeled: str | Path,
    train: str | Path,
    test: str | Path,
    arms: Sequence[str],
    labels: Sequence[int | float],
    seeds: int = 3,
    *,
    train_images: str | Path | None = None,
    test_images: str | Path | None = None,
    rates: Sequence[float] | None = None,
    pretrain_iters: int | None = None,
    pretrain_batch: int | None = None,
    fine_tune_iters: int = 1000,
    fine_tune_batch: int | None = None,
) -> tuple[Study, dict[str, dict]]:
    """Check the data and the arms of a study, and draw its label subsets.

    A fifth of the labeled training images, stratified by class, is the validation part. The label
    subsets are drawn from the other images.

    Args:
        detector (str | Path): Config of a detector.
        unlabeled (str | Path): Folder of images without labels.
        train (str | Path): COCO file of the labeled training images.
        test (str | Path): COCO file of the test images.
        arms (Sequence[str]): Arms in the syntax of :func:`parse_arm`.
        labels (Sequence[int | float]): Numbers of labeled images, or shares of the training images.
        seeds (int): Number of seeds. Defaults to 3.
        train_images (str | Path, optional): Folder of the training images. Defaults to None
            (searched beside the COCO file).
        test_images (str | Path, optional): Folder of the test images.
        rates (Sequence[float], optional): Learning rates of the search. Defaults to multiples of
            the detector's learning rate.
        pretrain_iters (int, optional): Iterations of each pre-training. Defaults to 200 epochs, but
            at least 5,000 iterations.
        pretrain_batch (int, optional): Images per iteration of the pre-training. Defaults to 32.
        fine_tune_iters (int): Iterations of each fine-tuning. Defaults to 1,000.
        fine_tune_batch (int, optional): Images per iteration of the fine-tuning. Defaults to that
            of the detector's config.

    Returns:
        tuple[Study, dict[str, dict]]: The study, and its COCO files by name.

    Raises:
        InputError: If a number, the data, the detector or an arm is invalid, a checkpoint does not
            fit the detector, more labeled images are requested than available, or a test image is
            among the training images.
    """
    check_at_least_one({
        '--seeds': seeds,
        '--pretrain-iters': pretrain_iters,
        '--pretrain-batch': pretrain_batch,
        '--fine-tune-iters': fine_tune_iters,
        '--fine-tune-batch': fine_tune_batch,
    })  # fmt: skip
    if not arms or not labels:
        raise InputError('--arms or --labels is empty; set at least one value of each')
    _check_rates(rates or ())
    detector = str(detector)
    parsed = [parse_arm(arm) for arm in arms]
    for arm in parsed:
        check_files(arm)
    names = [arm.name for arm in parsed]
    if len(set(names)) < len(names):
        raise InputError(f'the arms are {", ".join(names)}; use each name only once')
    cfg = read_config(detector)
    check_config(cfg, detector)
    check_weights(parsed, cfg, detector)
    train_folder, test_folder = (
        find_images(*each)
        for each in (
            (train, train_images, '--train-images'),
            (test, test_images, '--test-images'),
        )
    )
    training, testing = read_coco(train), read_coco(test)
    classes = tuple(class_names(training, train).values())
    if unknown := set(class_names(testing, test).values()) - set(classes):
        raise InputError(
            f'{test} has the class {min(unknown)}, which {train} lacks; use the same classes'
        )
    masks = loads_masks(cfg)
    training = unify_labels(training, train, classes, masks)
    testing = unify_labels(testing, test, classes, masks)
    total = len(training['images'])
    available = total - round(VALIDATION * total)
    for share in labels:
        if isinstance(share, float) and not 0 < share <= 1:
            raise InputError(f'--labels has the share {share:.0%}; set shares from 0 % to 100 %')
    counts = tuple(round(size * total) if isinstance(size, float) else size for size in labels)
    if max(counts) > available:
        raise InputError(
            f'{max(counts)} labeled images are requested, but {available} of the {total} training '
            'images are available, because a fifth is kept for choosing the learning rate; reduce '
            '--labels'
        )
    pool = UnlabeledDataset(data_root=unlabeled)
    check_leaks(
        [dict(img_path=str(test_folder / image['file_name'])) for image in testing['images']],
        [pool.get_data_info(index) for index in range(len(pool))]
        + [dict(img_path=str(train_folder / image['file_name'])) for image in training['images']],
    )
    labeled = label_subsets(training, [available], fold=0)[available]
    chosen = {image['id'] for image in labeled['images']}
    rest = {image['id'] for image in training['images']} - chosen
    validation = select_images(training, rest)
    files = {'val': validation, 'test': testing}
    for seed in range(seeds):
        for count, subset in label_subsets(labeled, counts, fold=seed).items():
            files[f'train.{seed}@{count}'] = subset
    batch = fine_tune_batch or cfg.train_dataloader.batch_size
    rate = learning_rate(cfg, batch)
    size = min(pretrain_batch or BATCH_SIZE, len(pool))
    study = Study(
        detector=detector if '::' in detector else str(Path(detector).resolve()),
        unlabeled=absolute(unlabeled),
        train=str(Path(train).resolve()),
        train_images=str(train_folder.resolve()),
        test=str(Path(test).resolve()),
        test_images=str(test_folder.resolve()),
        arms=tuple(arm.text for arm in parsed),
        labels=counts,
        seeds=seeds,
        rates=tuple(rates or (factor * rate for factor in FACTORS)),
        pretrain_iters=pretrain_iters or default_iterations(len(pool), size),
        pretrain_batch=size,
        fine_tune_iters=fine_tune_iters,
        fine_tune_batch=batch,
        classes=classes,
    )
    return study, files


def read_study(work_dir: Path) -> Study:
    """Read the settings of the study in a folder.

    Raises:
        InputError: If the file of the study is not one of this release.
    """
    path = work_dir / STUDY
    try:
        return Study.from_json(path.read_text())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{path} is not the file of a study of this release ({error!r}); set another --work-dir'
        ) from error


def write_study(study: Study, files: Mapping[str, dict], work_dir: Path) -> None:
    """Write the settings and the label files of a study.

    A study in the folder is extended by arms, numbers of labels, seeds and learning rates.

    Raises:
        InputError: If the folder contains a study with another value of another setting, with
            other labels, or with an arm, a number of labels, a seed or a learning rate that this
            study lacks.
    """
    path = work_dir / STUDY
    if path.is_file():
        _check_extension(read_study(work_dir), study, work_dir)
    paths = {name: work_dir / f'labels/{name}.json' for name in files}
    for name, labels in paths.items():
        # jobs that are done or running have used this file
        if labels.is_file() and json.loads(labels.read_text()) != files[name]:
            raise InputError(
                f'{labels} differs from the labels in {study.train} and {study.test}, which have '
                'changed since the study began; restore them, or set another --work-dir'
            )
    for name, labels in paths.items():
        if not labels.is_file():
            write_coco(files[name], labels)
    atomic_write(path, lambda path: path.write_text(study.to_json()))


def _check_extension(earlier: Study, study: Study, work_dir: Path) -> None:
    for name, old in asdict(earlier).items():
        new = getattr(study, name)
        if name in ('arms', 'labels', 'rates'):
            allowed = set(old) <= set(new)
        elif name == 'seeds':
            allowed = old <= new
        else:
            allowed = old == new
        if not allowed:
            setting = 'the classes' if name == 'classes' else f'--{name.replace("_", "-")}'
            raise InputError(
                f'{work_dir} contains a study with {setting} {_words(old)}, not {_words(new)}; set '
                'another --work-dir, or pass only --work-dir to resume that study'
            )


def _words(value: object) -> str:
    return ' '.join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_rates(rates: Sequence[float]) -> None:
    for rate in rates:
        if not 0 < rate < math.inf:
            raise InputError(f'--rates has the value {rate}; set finite values above 0')
    # the name of a job has six digits of its rate
    names = [f'{rate:g}' for rate in rates]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f'--rates has the value {min(twice)} twice; use each value only once')
