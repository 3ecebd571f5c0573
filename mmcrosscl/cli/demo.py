"""Pre-train a small CrossCL on photographs, then fine-tune a detector from it and from scratch."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help='images to train on, at any depth; default: photographs that come with scikit-image',
    )


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.demo import run_demo

    print(run_demo(args.data))
    return 0
