"""Compare how similar checkpoints make a region between levels, between views, and to others.

Each CHECKPOINT is a file of mmcrosscl or of a detector of MMDetection, NAME=FILE to name it in the
tables, or the word `untrained` for random weights of the same model. The regions are the labeled
boxes of a COCO file, or sliding windows on the images of a folder.
"""

import argparse
from pathlib import Path

from .arguments import add_trust_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('checkpoints', nargs='+', metavar='CHECKPOINT')
    parser.add_argument('--data', required=True, metavar='COCO_JSON|FOLDER')
    parser.add_argument(
        '--images', metavar='FOLDER', help='images of the COCO file; default: searched beside it'
    )
    parser.add_argument(
        '--config',
        help='config of the models, for checkpoints that do not contain one, such as those that '
        '`mmcrosscl pretrain` and `mmcrosscl convert` write',
    )
    parser.add_argument(
        '--count', type=int, default=500, metavar='N', help='number of images; default: 500'
    )
    parser.add_argument('--view-size', type=int, default=224, metavar='PIXELS', help='default: 224')
    parser.add_argument(
        '--region',
        nargs=5,
        metavar=('IMAGE', 'X', 'Y', 'WIDTH', 'HEIGHT'),
        help='image file and box in pixels to draw; default: the first region of the data',
    )
    parser.add_argument(
        '--out', type=Path, metavar='FOLDER', help='also write similarity.json and maps.png here'
    )
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.compare import compare

    print(
        compare(
            args.checkpoints,
            args.data,
            image_folder=args.images,
            config=args.config,
            images=args.count,
            view_size=args.view_size,
            region=args.region,
            out=args.out,
            trust=args.trust_checkpoints,
        )
    )
    return 0
