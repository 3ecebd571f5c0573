"""Plot the losses and accuracies of a run, also during training."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('work_dir', type=Path, help='work dir of the run')
    parser.add_argument(
        '--out', type=Path, help='image file to write; default: losses.png in work_dir'
    )


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.visualization import plot_loss_curves

    out = args.out or args.work_dir / 'losses.png'
    plot_loss_curves(args.work_dir, out)
    print(out)
    return 0
