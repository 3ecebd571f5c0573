"""Train a linear classifier of labeled boxes on the features of checkpoints, and test it.

This takes minutes, and shows which checkpoint tells the classes apart better, without fine-tuning a
detector. Each CHECKPOINT is a file of mmcrosscl or of a detector of MMDetection, NAME=FILE to name
it in the table, or the word `untrained` for random weights of the same model.
"""

import argparse

from .arguments import add_labeled_arguments, add_size_argument, add_trust_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('checkpoints', nargs='+', metavar='CHECKPOINT')
    add_labeled_arguments(parser, required=True)
    add_size_argument(parser, '--labels', required=True)
    parser.add_argument(
        '--folds', type=int, default=3, metavar='N', help='subsets of each size; default: 3'
    )
    parser.add_argument(
        '--config',
        help='config of the models, for checkpoints that do not contain one, such as those that '
        '`mmcrosscl pretrain` and `mmcrosscl convert` write',
    )
    parser.add_argument('--view-size', type=int, default=224, metavar='PIXELS', help='default: 224')
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.compare import named_checkpoints
    from mmcrosscl.evaluation import probe_checkpoints

    probe = probe_checkpoints(
        named_checkpoints(args.checkpoints),
        args.train,
        args.test,
        args.labels,
        folds=args.folds,
        train_images=args.train_images,
        test_images=args.test_images,
        config=args.config,
        view_size=args.view_size,
        trust=args.trust_checkpoints,
    )
    print(probe.table())
    return 0
