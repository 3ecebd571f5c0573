"""Draw the two views of training images, with the windows that the loss compares.

Shows what a config does with new data before anything is trained. The paired windows have the same
number and color in both views. The other windows, which the loss does not use, are faint.
"""

import argparse
from pathlib import Path

from .arguments import add_option_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'config', help='config file, or PACKAGE::CONFIG such as mmcrosscl::crosscl/r50_8xb32.py'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('views.png'),
        metavar='FILE',
        help='PNG file to write; default: views.png',
    )
    parser.add_argument(
        '--count', type=int, default=4, metavar='N', help='number of images; default: 4'
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='seed of the order of the images and of the augmentation. With the seed of a run, the '
        'images are those of its first batch; default: 0',
    )
    add_option_argument(parser)


def run(args: argparse.Namespace) -> int:
    from PIL import Image

    from mmcrosscl.checkpoints import atomic_write
    from mmcrosscl.engine import load_config
    from mmcrosscl.visualization import draw_views

    cfg = load_config(args.config, options=args.cfg_options)
    figure = Image.fromarray(draw_views(cfg, args.count, args.seed))
    atomic_write(args.out, lambda path: figure.save(path, 'png'))
    print(args.out)
    return 0
