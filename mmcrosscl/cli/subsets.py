"""Write nested subsets of the labeled images of a COCO file, stratified by class."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('ann_file', metavar='COCO_JSON', help='labeled images')
    parser.add_argument(
        '--sizes',
        nargs='+',
        required=True,
        type=size,
        metavar='SIZE',
        help='numbers of images, such as 50 200, or shares, such as 1%% 10%%',
    )
    parser.add_argument(
        '--folds', type=int, default=1, metavar='N', help='subsets of each size; default: 1'
    )
    parser.add_argument('--out', required=True, metavar='FOLDER', help='folder to write to')


def size(text: str) -> int | float:
    """Return a number of images, or a share such as '10%' as a float."""
    return float(text[:-1]) / 100 if text.endswith('%') else int(text)


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.datasets import write_label_subsets

    for path in write_label_subsets(args.ann_file, args.sizes, args.folds, args.out):
        print(path)
    return 0
