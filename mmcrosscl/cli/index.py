"""Index the images in a folder or in archives ahead of a run.

A run indexes its images if no current index exists. With many images or slow storage, index them
once before you start the processes of a run.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'data', metavar='FOLDER', help='images, or tar and zip files with images; or a URL'
    )
    parser.add_argument(
        '--list', default='', metavar='FILE', help='text file with the paths of the images'
    )
    parser.add_argument(
        '--rebuild',
        action='store_true',
        help='index again although no folder or archive has a new modification time',
    )


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.datasets import UnlabeledDataset, absolute

    dataset = UnlabeledDataset(
        absolute(args.data), ann_file=args.list and absolute(args.list), lazy_init=True
    )
    dataset.full_init(args.rebuild)
    path = dataset.index.path
    print(f'{len(dataset):,} images, {path.stat().st_size / 1e6:,.1f} MB\n{path}')
    return 0
