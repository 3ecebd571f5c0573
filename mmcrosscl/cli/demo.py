"""Pre-train a small detector, then fine-tune it with and without the pre-training."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help='folder of images to pre-train on, including its subfolders; default: generated '
        'scenes, or photographs of scikit-image if the packages for the scenes are missing',
    )


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.demo import run_demo

    print(run_demo(args.data))
    return 0
