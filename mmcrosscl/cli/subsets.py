"""Write nested subsets of the labeled images of a COCO file, stratified by class."""

import argparse

from .arguments import add_size_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('ann_file', metavar='COCO_JSON', help='labeled images')
    add_size_argument(parser, '--sizes', required=True)
    parser.add_argument(
        '--folds', type=int, default=1, metavar='N', help='subsets of each size; default: 1'
    )
    parser.add_argument('--out', required=True, metavar='FOLDER', help='folder to write to')


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.datasets import write_label_subsets

    for path in write_label_subsets(args.ann_file, args.sizes, args.folds, args.out):
        print(path)
    return 0
