"""Demo: pre-train the backbone and neck of a small detector, and fine-tune it with and without."""

import itertools
import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, set_start_method
from pathlib import Path

import torch
from mmengine.runner import Runner

from .api import pretrain
from .checkpoints import last_checkpoint, missing_weight_packages, write_efficientnet_lite0
from .compare import compare
from .datasets import read_coco
from .datasets.demo import missing_packages, write_demo_objects, write_demo_photos, write_scenes
from .engine import build_runner, load_config
from .errors import InputError
from .evaluation import probe_checkpoints
from .reports import write_report
from .visualization import plot_detections, plot_loss_curves

PHOTOS, OBJECTS = Path('data/demo_photos'), Path('data/demo_objects')
SENSOR, SENSOR_COUNTS = Path('data/demo_sensor'), dict(unlabeled=2000, train=200, test=100)
WEIGHTS = Path('data/demo_weights/efficientnet-lite0.pth')
RUNS = Path('work_dirs/demo')


@dataclass(frozen=True)
class Setting:
    """Images, detector and schedule of the demo.

    Attributes:
        unlabeled: Folder of the images to pre-train on.
        labeled: Folder of the labeled dataset.
        unseen: Part of the labeled dataset that is not trained on.
        detector: Config of the detector.
        view_size: Side of the labeled images in pixels.
        iterations: Length of the pre-training.
        weights: Checkpoint that both detectors start from. None for random weights.
        start: Name of the weights that both detectors start from.
    """

    unlabeled: Path
    labeled: Path
    unseen: str
    detector: str
    view_size: int
    iterations: int
    weights: Path | None
    start: str

    def annotations(self, part: str) -> Path:
        """Return the COCO file of a part of the labeled dataset."""
        return self.labeled / f'annotations/{part}.json'


@dataclass(frozen=True)
class FineTuned:
    """Results of a fine-tuned detector on the unseen images.

    Attributes:
        ap: Box AP in percent.
        ap50: Box AP at an IoU of 0.5 in percent.
        detections: Samples with predictions.
        classes: Names of the classes.
    """

    ap: float
    ap50: float
    detections: list
    classes: tuple[str, ...]


def run_demo(data: str | Path | None = None) -> str:
    """Run the demo in the current folder.

    Args:
        data (str | Path, optional): Folder of images to pre-train on, including its subfolders.
            Defaults to generated images; see :func:`prepare`.

    Returns:
        str: The results, the paths of the files, and the next command.

    Raises:
        InputError: If the folder has no images, or if scikit-image is needed and not installed.
        RunError: If a process dies.
    """
    started = time.time()
    work_dir = RUNS / time.strftime('%Y%m%d_%H%M%S')
    losses, found = work_dir / 'losses.png', work_dir / 'detections.png'
    if data is not None and not Path(data).expanduser().is_dir():
        raise InputError(f'image folder {data} does not exist; pass a folder of images')
    setting = prepare(None if data is None else Path(data).expanduser())
    checkpoint = pretrain(
        setting.detector,
        setting.unlabeled,
        work_dir,
        iters=setting.iterations,
        weights=setting.weights,
        from_scratch=setting.weights is None,
        changes='mmcrosscl::_base_/demo_similarity.py',
        options={'val_dataloader.dataset.data_root': str(setting.unlabeled)},
    )
    link_latest(work_dir)
    plot_loss_curves(work_dir, losses)
    starts = {'CrossCL': checkpoint, setting.start: setting.weights}
    folders = {start: work_dir / f'from_{start.lower()}' for start in starts}
    tuned = fine_tune_all(setting, starts, folders)
    plot_detections(
        {f'from {start}': result.detections for start, result in tuned.items()},
        tuned['CrossCL'].classes,
        found,
    )
    print('Comparing the features before and after training', flush=True)
    training, unseen = setting.annotations('train'), setting.annotations(setting.unseen)
    models: dict[str, str | None] = {
        setting.start: str(setting.weights) if setting.weights else None,
        'CrossCL': str(checkpoint),
    }
    probe = probe_checkpoints(
        models,
        training,
        unseen,
        [len(read_coco(training)['images'])],
        folds=1,
        config=setting.detector,
        view_size=setting.view_size,
    )
    similarity = compare(
        [
            *([f'{setting.start}={setting.weights}'] if setting.weights else []),
            'untrained',
            f'CrossCL={checkpoint}',
            f'fine-tuned={last_checkpoint(folders["CrossCL"])}',
        ],
        unseen,
        config=setting.detector,
        view_size=setting.view_size,
        out=work_dir / 'similarity',
    )
    page = write_report([work_dir, *folders.values()])
    scores = '\n'.join(
        f'  {start:15} {result.ap:6.1f} {result.ap50:6.1f}' for start, result in tuned.items()
    )
    note = '  One run does not show which initialization is better; mmcrosscl study compares seeds.'
    if setting.weights is not None:
        note += '\n  A study of such scenes has an AP gain of +1.1 [+0.6, +1.6] (docs/evidence.md).'
    return f"""
Similarity of regions: {similarity}

Linear classifier of frozen features: {probe.table()}

Pre-trained a small CrossCL model on {setting.unlabeled}, from {setting.start} weights.
  checkpoint   {checkpoint}
  log          {next(work_dir.glob('*/*.log'))}
  loss curves  {losses}
Fine-tuned a small detector from each initialization on {setting.labeled}, with the same schedule.
  initialization  box AP   AP50
{scores}
{note}
  detections   {found}
  report       {page}
The demo took {(time.time() - started) / 60:.0f} minutes.
Next: pre-train your own detector on your own images
  mmcrosscl pretrain --detector my_detector.py --data /my/photos --work-dir work_dirs/mine"""


def prepare(unlabeled: Path | None) -> Setting:
    """Write the images of the demo that do not exist yet, and return the setting.

    Without a folder, and if the packages are installed, the images are scenes as another sensor
    would see them, and the backbone has ImageNet weights. Otherwise, the demo uses photographs and
    random weights.

    Args:
        unlabeled (Path, optional): Folder of images to pre-train on.
    """
    missing = {'apt-get': missing_packages(), 'pip': missing_weight_packages()}
    if unlabeled is None and not any(missing.values()):
        if not SENSOR.exists():
            print(f'Writing scenes to {SENSOR}', flush=True)
            write_scenes(SENSOR, **SENSOR_COUNTS, sensor=True)
        if not WEIGHTS.exists():
            write_efficientnet_lite0(WEIGHTS)
        return Setting(
            unlabeled=SENSOR / 'unlabeled',
            labeled=SENSOR,
            unseen='test',
            detector='mmcrosscl::detection/faster-rcnn_efficientnet-lite0_scenes.py',
            view_size=192,
            iterations=100,
            weights=WEIGHTS,
            start='ImageNet',
        )
    if unlabeled is None:
        commands = [f'{tool} install {" ".join(names)}' for tool, names in missing.items() if names]
        print(
            'The demo uses photographs of scikit-image. For a better demo, run: '
            + ' && '.join(commands)
        )
        unlabeled = PHOTOS
        if not PHOTOS.exists():
            print(f'Writing photographs to {PHOTOS}', flush=True)
            write_demo_photos(PHOTOS)
    if not OBJECTS.exists():
        print(f'Writing a labeled dataset to {OBJECTS}', flush=True)
        write_demo_objects(OBJECTS)
    return Setting(
        unlabeled=unlabeled,
        labeled=OBJECTS,
        unseen='val',
        detector='mmcrosscl::detection/faster-rcnn_r18_demo.py',
        view_size=160,
        iterations=240,
        weights=None,
        start='random',
    )


def link_latest(work_dir: Path) -> None:
    """Create the link ``latest`` to the work dir, which the detector's config starts from."""
    link = work_dir.with_name('latest')
    link.unlink(missing_ok=True)
    link.symlink_to(work_dir.name)


def detector_options(setting: Setting) -> dict[str, object]:
    """Return the settings of the detector's config for the labeled dataset."""
    names, unseen = ('train', 'val', 'test'), str(setting.annotations(setting.unseen))
    return {
        **{f'{name}_dataloader.dataset.data_root': f'{setting.labeled}/' for name in names},
        **{f'{name}_evaluator.ann_file': unseen for name in names[1:]},
    }


def fine_tune_all(
    setting: Setting, starts: Mapping[str, Path | None], folders: Mapping[str, Path]
) -> dict[str, FineTuned]:
    """Fine-tune the demo's detector from each start, in processes that share the cores.

    One process per core is faster than one process that uses all cores. Only the first process
    prints its progress.

    Args:
        setting (Setting): Images and detector.
        starts (Mapping[str, Path | None]): Checkpoint of each start. None for random weights.
        folders (Mapping[str, Path]): Work dir of each start.
    """
    first, *others = starts
    print(
        f'Fine-tuning from {first} weights, and in parallel from {", ".join(others)} weights',
        flush=True,
    )
    options = detector_options(setting)
    threads = max(1, torch.get_num_threads() // len(starts))
    with ProcessPoolExecutor(len(starts), get_context('spawn')) as pool:
        futures = {
            start: pool.submit(
                fine_tune,
                setting.detector,
                {**options, 'pretrained': weights and str(weights)},
                folders[start],
                threads,
                quiet=start != first,
            )
            for start, weights in starts.items()
        }
        return {start: future.result() for start, future in futures.items()}


def fine_tune(
    detector: str, options: Mapping[str, object], work_dir: Path, threads: int, quiet: bool
) -> FineTuned:
    """Fine-tune and evaluate the demo's detector in a process of its own."""
    torch.set_num_threads(threads)
    # the method that MMEngine sets, which warns if another one is set
    set_start_method('fork', force=True)
    if quiet:
        with open(os.devnull, 'w') as null:
            os.dup2(null.fileno(), 1)
            os.dup2(null.fileno(), 2)
    runner = build_runner(load_config(detector, work_dir=work_dir, options=options))
    runner.train()
    return FineTuned(
        ap=score(runner, ''),
        ap50=score(runner, '_50'),
        detections=detect(runner),
        classes=runner.val_dataloader.dataset.metainfo['classes'],
    )


def score(runner: Runner, kind: str) -> float:
    """Return the last box AP in percent; 0 without detections, where MMDetection logs no AP."""
    scalars = runner.message_hub.log_scalars.get(f'val/coco/bbox_mAP{kind}')
    return 100 * scalars.current() if scalars else 0.0


def detect(runner: Runner, batches: int = 2) -> list:
    """Return the predictions on the first batches of the validation set."""
    runner.model.eval()
    loader = itertools.islice(runner.val_dataloader, batches)
    # other processes cannot receive tensors that have a gradient or are on a GPU
    with torch.no_grad():
        return [sample.cpu() for batch in loader for sample in runner.model.val_step(batch)]
