"""Demo: pre-train a small CrossCL model, then fine-tune a detector from it and from scratch."""

import itertools
import shlex
import time
from pathlib import Path

from mmengine.runner import Runner

from .checkpoints import last_checkpoint
from .compare import compare
from .datasets.demo import write_demo_objects, write_demo_photos
from .engine import build_runner, load_config
from .errors import InputError
from .reports import write_report
from .visualization import plot_detections, plot_loss_curves

PHOTOS = Path('data/demo_photos')
OBJECTS = Path('data/demo_objects')
RUNS = Path('work_dirs/r18_demo')
STARTS = ('CrossCL', 'random')


def run_demo(data: str | Path | None = None) -> str:
    """Run the demo in the current folder.

    Args:
        data (str | Path, optional): Folder of images to pre-train on, including its subfolders.
            Defaults to the photographs of scikit-image.

    Returns:
        str: The results, the paths of the files, and the next command.

    Raises:
        InputError: If the folder has no images, or if scikit-image is not installed.
        RunError: If a process dies.
    """
    started = time.time()
    work_dir = RUNS / time.strftime('%Y%m%d_%H%M%S')
    losses, found = work_dir / 'losses.png', work_dir / 'detections.png'
    if data is not None and not Path(data).expanduser().is_dir():
        raise InputError(f'image folder {data} does not exist; pass a folder of images')
    if data is None and not PHOTOS.exists():
        print(f'Writing photographs to {PHOTOS}', flush=True)
        write_demo_photos(PHOTOS)
    data = PHOTOS if data is None else Path(data).expanduser()
    checkpoint = pretrain(data, work_dir)
    link_latest(work_dir)
    plot_loss_curves(work_dir, losses)
    if not OBJECTS.exists():
        print(f'Writing a labeled dataset to {OBJECTS}', flush=True)
        write_demo_objects(OBJECTS)
    runners = {
        start: fine_tune(
            checkpoint if start == 'CrossCL' else None, work_dir / f'from_{start.lower()}'
        )
        for start in STARTS
    }
    detections = {f'from {start}': detect(runner) for start, runner in runners.items()}
    classes = runners['CrossCL'].val_dataloader.dataset.metainfo['classes']
    plot_detections(detections, classes, found)
    print('Comparing the similarity of regions before and after training', flush=True)
    similarity = compare(
        [
            'untrained',
            f'CrossCL={checkpoint}',
            f'fine-tuned={last_checkpoint(work_dir / "from_crosscl")}',
        ],
        OBJECTS / 'annotations/val.json',
        view_size=160,
        out=work_dir / 'similarity',
    )
    page = write_report([work_dir, *(work_dir / f'from_{start.lower()}' for start in STARTS)])
    scores = '\n'.join(
        f'  {start:12} {score(runner, ""):6.1f} {score(runner, "_50"):6.1f}'
        for start, runner in runners.items()
    )
    return f"""
{similarity}

Pre-trained a small CrossCL model on {data}.
  checkpoint   {checkpoint}
  log          {next(work_dir.glob('*/*.log'))}
  loss curves  {losses}
Fine-tuned a small detector from each start on {OBJECTS}, with the same schedule.
  start        box AP   AP50
{scores}
  detections   {found}
  report       {page}
The demo took {(time.time() - started) / 60:.0f} minutes.
Next: pre-train the published model on your own images, on one GPU
  mkdir -p data && ln -sfn {shlex.quote(str(data.resolve()))} data/photos
  mmcrosscl train mmcrosscl::crosscl/r50_8xb32_folder.py --auto-scale-lr"""


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


def fine_tune(pretrained: Path | None, work_dir: Path) -> Runner:
    """Fine-tune and evaluate the demo's detector, and return its runner."""
    cfg = load_config(
        'mmcrosscl::detection/faster-rcnn_r18_demo.py',
        work_dir=work_dir,
        options=dict(pretrained=pretrained and str(pretrained)),
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
