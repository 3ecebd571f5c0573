"""Copy images to tar files, which network storage reads faster than many small files."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('data', metavar='FOLDER', help='images, which are searched at any depth')
    parser.add_argument('out', metavar='OUT', help='folder to write the tar files to')
    parser.add_argument(
        '--images', type=int, default=10_000, metavar='N', help='images per file; default: 10000'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of their order; default: 0')


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.datasets import UnlabeledDataset, absolute, write_shards

    dataset = UnlabeledDataset(data_root=absolute(args.data))
    shards = write_shards(dataset, args.out, args.images, args.seed)
    print(f'{args.out}: {len(dataset):,} images in {len(shards):,} tar files')
    return 0
