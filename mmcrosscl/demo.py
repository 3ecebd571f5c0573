"""Demo: pre-train a small CrossCL model, then fine-tune a detector from it and from scratch."""

import itertools
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from mmengine.runner import Runner

from .checkpoints import last_checkpoint
from .compare import compare
from .datasets import read_coco
from .datasets.demo import missing_packages, write_demo_objects, write_demo_photos, write_scenes
from .engine import build_runner, load_config
from .errors import InputError
from .evaluation import probe_checkpoints
from .reports import write_report
from .visualization import plot_detections, plot_loss_curves

PHOTOS, OBJECTS = Path('data/demo_photos'), Path('data/demo_objects')
SCENES, SCENE_COUNTS = Path('data/demo_scenes'), dict(unlabeled=2000, train=200, test=100)
RUNS = Path('work_dirs/r18_demo')
STARTS = ('CrossCL', 'random')


@dataclass(frozen=True)
class DemoData:
    """Images of the demo, and a detector for them.

    Attributes:
        unlabeled: Folder of the images to pre-train on.
        labeled: Folder of the labeled dataset.
        unseen: Part of the labeled dataset that is not trained on.
        detector: Config of the detector.
        view_size: Side of the labeled images in pixels.
    """

    unlabeled: Path
    labeled: Path
    unseen: str
    detector: str
    view_size: int

    def annotations(self, part: str) -> Path:
        """Return the COCO file of a part of the labeled dataset."""
        return self.labeled / f'annotations/{part}.json'


def run_demo(data: str | Path | None = None) -> str:
    """Run the demo in the current folder.

    Args:
        data (str | Path, optional): Folder of images to pre-train on, including its subfolders.
            Defaults to unlabeled scenes like the labeled ones or, if the Debian packages of the
            scenes are not installed, to photographs of scikit-image.

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
    images = prepare(None if data is None else Path(data).expanduser())
    checkpoint = pretrain(images.unlabeled, work_dir)
    link_latest(work_dir)
    plot_loss_curves(work_dir, losses)
    runners = {
        start: fine_tune(
            images, checkpoint if start == 'CrossCL' else None, work_dir / f'from_{start.lower()}'
        )
        for start in STARTS
    }
    detections = {f'from {start}': detect(runner) for start, runner in runners.items()}
    classes = runners['CrossCL'].val_dataloader.dataset.metainfo['classes']
    plot_detections(detections, classes, found)
    print('Comparing the features before and after training', flush=True)
    models = {'untrained': None, 'CrossCL': str(checkpoint)}
    labeled = len(read_coco(images.annotations('train'))['images'])
    probe = probe_checkpoints(
        models,
        images.annotations('train'),
        images.annotations(images.unseen),
        [labeled],
        folds=1,
        view_size=images.view_size,
    )
    similarity = compare(
        [
            'untrained',
            f'CrossCL={checkpoint}',
            f'fine-tuned={last_checkpoint(work_dir / "from_crosscl")}',
        ],
        images.annotations(images.unseen),
        view_size=images.view_size,
        out=work_dir / 'similarity',
    )
    page = write_report([work_dir, *(work_dir / f'from_{start.lower()}' for start in STARTS)])
    scores = '\n'.join(
        f'  {start:12} {score(runner, ""):6.1f} {score(runner, "_50"):6.1f}'
        for start, runner in runners.items()
    )
    return f"""
Similarity of regions: {similarity}

Linear classifier of frozen features: {probe.table()}

Pre-trained a small CrossCL model on {images.unlabeled}.
  checkpoint   {checkpoint}
  log          {next(work_dir.glob('*/*.log'))}
  loss curves  {losses}
Fine-tuned a small detector from each start on {images.labeled}, with the same schedule.
  start        box AP   AP50
{scores}
  detections   {found}
  report       {page}
The demo took {(time.time() - started) / 60:.0f} minutes.
Next: pre-train the published model on your own images, on one GPU
  mkdir -p data && ln -sfn {shlex.quote(str(images.unlabeled.resolve()))} data/photos
  mmcrosscl train mmcrosscl::crosscl/r50_8xb32_folder.py --auto-scale-lr"""


def prepare(unlabeled: Path | None) -> DemoData:
    """Write the images of the demo that do not exist yet.

    Args:
        unlabeled (Path, optional): Folder of images to pre-train on.
    """
    if not missing_packages():
        if not SCENES.exists():
            print(f'Writing scenes to {SCENES}', flush=True)
            write_scenes(SCENES, **SCENE_COUNTS)
        config = 'mmcrosscl::detection/faster-rcnn_r18_scenes.py'
        return DemoData(unlabeled or SCENES / 'unlabeled', SCENES, 'test', config, 192)
    print(
        'The demo uses photographs of scikit-image. For scenes of many objects, run: apt-get '
        f'install {" ".join(missing_packages())}'
    )
    if unlabeled is None and not PHOTOS.exists():
        print(f'Writing photographs to {PHOTOS}', flush=True)
        write_demo_photos(PHOTOS)
    if not OBJECTS.exists():
        print(f'Writing a labeled dataset to {OBJECTS}', flush=True)
        write_demo_objects(OBJECTS)
    config = 'mmcrosscl::detection/faster-rcnn_r18_demo.py'
    return DemoData(unlabeled or PHOTOS, OBJECTS, 'val', config, 160)


def pretrain(data: Path, work_dir: Path) -> Path:
    """Pre-train on a folder of images, and return the path of the checkpoint."""
    cfg = load_config(
        'mmcrosscl::crosscl/r18_demo.py',
        work_dir=work_dir,
        options={
            'train_dataloader.dataset.data_root': str(data),
            'val_dataloader.dataset.data_root': str(data),
        },
    )
    build_runner(cfg).train()
    return last_checkpoint(work_dir)


def link_latest(work_dir: Path) -> None:
    """Create the link ``latest`` to the work dir, which the detector's config starts from."""
    link = work_dir.with_name('latest')
    link.unlink(missing_ok=True)
    link.symlink_to(work_dir.name)


def fine_tune(images: DemoData, pretrained: Path | None, work_dir: Path) -> Runner:
    """Fine-tune and evaluate the demo's detector, and return its runner."""
    unseen = images.annotations(images.unseen)
    cfg = load_config(
        images.detector,
        work_dir=work_dir,
        options={
            'pretrained': pretrained and str(pretrained),
            **{
                f'{name}_dataloader.dataset.data_root': f'{images.labeled}/'
                for name in ('train', 'val', 'test')
            },
            **{f'{name}_evaluator.ann_file': str(unseen) for name in ('val', 'test')},
        },
    )
    runner = build_runner(cfg)
    runner.train()
    return runner


def score(runner: Runner, kind: str) -> float:
    """Return the last box AP in percent; 0 without detections, where MMDetection logs no AP."""
    scalars = runner.message_hub.log_scalars.get(f'val/coco/bbox_mAP{kind}')
    return 100 * scalars.current() if scalars else 0.0


def detect(runner: Runner, batches: int = 2) -> list:
    """Return the predictions on the first batches of the validation set."""
    runner.model.eval()
    loader = itertools.islice(runner.val_dataloader, batches)
    return [sample for batch in loader for sample in runner.model.val_step(batch)]
