"""Test with a config of mmcrosscl, MMPretrain or MMDetection, and print the metrics."""

import argparse

from .arguments import add_config_arguments, config_keywords


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint of the trained model; omit it if the test needs no trained model, as for '
        'k-nearest neighbors',
    )


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.engine import build_runner, load_config, set_test_checkpoint

    cfg = load_config(**config_keywords(args))
    set_test_checkpoint(cfg, args.checkpoint)
    build_runner(cfg).test()
    return 0
