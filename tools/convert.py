"""Convert a checkpoint of CrossCL, MoCo, DenseCL, ReSim, torchvision and others to another format.

SRC is looked at to find out what it is. Nothing in it is run, and DST is written whole or not at
all; names that end in .safetensors are read and written as such.
"""

import argparse
import sys
from pathlib import Path

try:
    from mmcrosscl.checkpoints import TARGETS, convert, read_checkpoint, write_checkpoint
    from mmcrosscl.errors import InputError
except ImportError as error:
    sys.exit(f'error: {error}')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', type=Path, metavar='SRC', help='checkpoint to convert')
    parser.add_argument('dst', type=Path, metavar='DST', help='file to write')
    parser.add_argument('--to', choices=TARGETS, required=True, help='format of DST')
    parser.add_argument('--force', action='store_true', help='replace DST if it exists')
    parser.add_argument(
        '--start-level',
        type=int,
        choices=[0, 1],
        default=0,
        help='with --to mmdet: 1 for detectors whose FPN starts at C3, as RetinaNet and FCOS',
    )
    parser.add_argument(
        '--raw', action='store_true', help='of averaged weights (EMA), those before averaging'
    )
    parser.add_argument(
        '--trust-checkpoints',
        action='store_true',
        help='unpickle whatever SRC holds: that runs any program that its author put there, with '
        'your rights',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        if args.dst.exists() and not args.force:
            raise InputError(f'{args.dst} exists; give --force to replace it')
        checkpoint = read_checkpoint(args.src, args.trust_checkpoints)
        conversion = convert(checkpoint, args.to, args.start_level, args.raw)
        flat = args.dst.suffix == '.safetensors'
        write_checkpoint(conversion.state_dict if flat else conversion.contents(), args.dst)
    except InputError as error:
        sys.exit(f'error: {error}')
    print(f'{args.src}: {conversion.kind}\n\n{conversion.table()}\n\nwrote {args.dst}')
    if args.to == 'detectron2':
        print(
            'Its config needs MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], MODEL.PIXEL_STD '
            '[58.395, 57.12, 57.375], INPUT.FORMAT "RGB" and MODEL.RESNETS.STRIDE_IN_1X1 False.'
        )


if __name__ == '__main__':
    main()
