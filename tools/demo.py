"""Pre-train a small CrossCL on a folder of photographs in a few minutes."""

import argparse
import shlex
import sys
import time
from pathlib import Path

try:
    from mmcrosscl.datasets.demo_photos import write_demo_photos
    from mmcrosscl.engine import build_runner
    from mmcrosscl.errors import InputError, sentence
    from mmcrosscl.visualization import plot_loss_curves
except ImportError as error:
    sys.exit(f'error: {error}')
from mmengine.config import Config

CONFIG = Path(__file__).parents[1] / 'configs/crosscl/r18_demo.py'
PHOTOS = Path('data/demo_photos')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help=f'images to train on, at any depth; default: photographs of scikit-image in {PHOTOS}',
    )
    return parser.parse_args()


def pretrain(data: Path, work_dir: Path) -> None:
    cfg = Config.fromfile(CONFIG)
    cfg.train_dataloader.dataset.data_root = str(data)
    cfg.work_dir = str(work_dir)
    build_runner(cfg).train()


def main() -> None:
    args = parse_args()
    work_dir = Path('work_dirs/r18_demo', time.strftime('%Y%m%d_%H%M%S'))
    picture = work_dir / 'losses.png'
    try:
        if args.data is None and not PHOTOS.exists():
            print(f'Cutting photographs into {PHOTOS}', flush=True)
            write_demo_photos(PHOTOS)
        data = Path(args.data).expanduser() if args.data else PHOTOS
        pretrain(data, work_dir)
        plot_loss_curves(work_dir, picture)
    except InputError as error:
        sys.exit(f'error: {sentence(error)}')
    checkpoint = work_dir / Path((work_dir / 'last_checkpoint').read_text()).name
    log = next(work_dir.glob('*/*.log'))
    print(f"""
Pre-trained a small CrossCL on {data}.
  checkpoint   {checkpoint}
  log          {log}
  loss curves  {picture}
Next: the published model on images of yours, on one GPU
  mkdir -p data && ln -sfn {shlex.quote(str(data.resolve()))} data/photos
  .venv/bin/python tools/train.py configs/crosscl/r50_8xb32_folder.py --auto-scale-lr""")


if __name__ == '__main__':
    main()
