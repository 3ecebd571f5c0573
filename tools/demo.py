"""Pre-train a small CrossCL on photographs, then fine-tune a detector from it and from scratch."""

import argparse
import itertools
import shlex
import sys
import time
from pathlib import Path

try:
    from mmcrosscl.datasets.demo.objects import write_demo_objects
    from mmcrosscl.datasets.demo.photos import write_demo_photos
    from mmcrosscl.engine import build_runner
    from mmcrosscl.errors import InputError, sentence
    from mmcrosscl.visualization import plot_detections, plot_loss_curves
except ImportError as error:
    sys.exit(f'error: {error}')
from mmengine.config import Config
from mmengine.runner import Runner

CONFIGS = Path(__file__).parents[1] / 'configs'
PHOTOS = Path('data/demo_photos')
OBJECTS = Path('data/demo_objects')
STARTS = ('CrossCL', 'random')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help=f'images to train on, at any depth; default: photographs of scikit-image in {PHOTOS}',
    )
    return parser.parse_args()


def pretrain(data: Path, work_dir: Path) -> Path:
    """Gives the checkpoint."""
    cfg = Config.fromfile(CONFIGS / 'crosscl/r18_demo.py')
    cfg.train_dataloader.dataset.data_root = str(data)
    cfg.work_dir = str(work_dir)
    build_runner(cfg).train()
    return work_dir / Path((work_dir / 'last_checkpoint').read_text()).name


def fine_tune(pretrained: Path | None, work_dir: Path) -> Runner:
    """Gives the runner, trained and tested."""
    cfg = Config.fromfile(CONFIGS / 'detection/faster-rcnn_r18_demo.py')
    cfg.pretrained = pretrained and str(pretrained)
    cfg.work_dir = str(work_dir)
    # runs of one process would share what draws and logs
    cfg.visualizer.name = work_dir.name
    runner = build_runner(cfg)
    runner.train()
    return runner


def score(runner: Runner, kind: str) -> float:
    """The last test's box AP in per cent; MMDetection gives none where nothing was found."""
    scalars = runner.message_hub.log_scalars.get(f'val/coco/bbox_mAP{kind}')
    return 100 * scalars.current() if scalars else 0.0


def detect(runner: Runner, batches: int = 2) -> list:
    """Predictions on the first images of the test."""
    runner.model.eval()
    loader = itertools.islice(runner.val_dataloader, batches)
    return [sample for batch in loader for sample in runner.model.val_step(batch)]


def main() -> None:
    args = parse_args()
    started = time.time()
    work_dir = Path('work_dirs/r18_demo', time.strftime('%Y%m%d_%H%M%S'))
    losses, found = work_dir / 'losses.png', work_dir / 'detections.png'
    try:
        if args.data is None and not PHOTOS.exists():
            print(f'Cutting photographs into {PHOTOS}', flush=True)
            write_demo_photos(PHOTOS)
        data = Path(args.data).expanduser() if args.data else PHOTOS
        checkpoint = pretrain(data, work_dir)
        plot_loss_curves(work_dir, losses)
        if not OBJECTS.exists():
            print(f'Writing a labelled set into {OBJECTS}', flush=True)
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
    except InputError as error:
        sys.exit(f'error: {sentence(error)}')
    print(f"""
Pre-trained a small CrossCL on {data}.
  checkpoint   {checkpoint}
  log          {next(work_dir.glob('*/*.log'))}
  loss curves  {losses}
Fine-tuned one small detector twice on {OBJECTS}, on the same schedule.
  start        box AP   AP50""")
    for start, runner in runners.items():
        print(f'  {start:12} {score(runner, ""):6.1f} {score(runner, "_50"):6.1f}')
    print(f"""  detections   {found}
All of it took {(time.time() - started) / 60:.0f} minutes.
Next: the published model on images of yours, on one GPU
  mkdir -p data && ln -sfn {shlex.quote(str(data.resolve()))} data/photos
  .venv/bin/python tools/train.py configs/crosscl/r50_8xb32_folder.py --auto-scale-lr""")


if __name__ == '__main__':
    main()
