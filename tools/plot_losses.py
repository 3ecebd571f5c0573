"""Draw the losses and accuracies of a run, finished or not."""

import argparse
import sys
from pathlib import Path

try:
    from mmcrosscl.errors import InputError
    from mmcrosscl.visualization import plot_loss_curves
except ImportError as error:
    sys.exit(f'error: {error}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', type=Path, help='work dir of the run')
    parser.add_argument(
        '--out', type=Path, help='picture to write; default: losses.png in work_dir'
    )
    args = parser.parse_args()
    out = args.out or args.work_dir / 'losses.png'
    try:
        plot_loss_curves(args.work_dir, out)
    except InputError as error:
        sys.exit(f'error: {error}')
    print(out)


if __name__ == '__main__':
    main()
