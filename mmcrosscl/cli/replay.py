"""Rerun a training step whose loss or gradient was NaN/Inf, and print where it first occurs."""

import argparse

from .arguments import add_config_arguments, config_keywords


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument('record', help='non_finite_iter_*.pth, which training wrote')


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.engine import load_config, replay

    print(replay(load_config(**config_keywords(args)), args.record))
    return 0
