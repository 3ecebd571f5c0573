"""Pre-train a small model on photographs, then fine-tune a detector from it and from scratch."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help='folder of images to pre-train on, including its subfolders; default: the photographs '
        'of scikit-image',
    )


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.demo import run_demo

    print(run_demo(args.data))
    return 0
