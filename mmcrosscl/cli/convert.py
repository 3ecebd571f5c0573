"""Convert a checkpoint of CrossCL, MoCo, torchvision, or any project with a ResNet.

The format of SRC is detected. No code in SRC is run, unless --trust-checkpoints is set. DST is
written atomically. Files whose names end in .safetensors are read and written in this format.
"""

import argparse
from pathlib import Path

from .arguments import add_trust_argument

# copy of mmcrosscl.checkpoints.TARGETS, whose import would import torch; a test compares them
TARGETS = ('crosscl', 'mmdet', 'mmdet-backbone', 'detectron2', 'torchvision', 'timm')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('src', type=Path, metavar='SRC', help='checkpoint to convert')
    parser.add_argument('dst', type=Path, metavar='DST', help='file to write')
    parser.add_argument('--to', choices=TARGETS, required=True, help='format of DST')
    parser.add_argument('--force', action='store_true', help='replace DST if it exists')
    parser.add_argument(
        '--start-level',
        type=int,
        choices=[0, 1],
        default=0,
        help='with --to mmdet: 1 for detectors whose FPN starts at C3, such as RetinaNet and FCOS',
    )
    parser.add_argument(
        '--raw',
        action='store_true',
        help='convert the weights before averaging instead of the averaged weights (EMA)',
    )
    parser.add_argument(
        '--prefix',
        metavar='PREFIX',
        help='convert only the ResNet whose names begin with PREFIX, such as encoder_k.',
    )
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.checkpoints import convert_file

    print(
        convert_file(
            args.src,
            args.dst,
            args.to,
            start_level=args.start_level,
            raw=args.raw,
            replace=args.force,
            trust=args.trust_checkpoints,
            prefix=args.prefix,
        )
    )
    return 0
