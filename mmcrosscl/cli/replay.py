"""Rerun a NaN/Inf training step, and print the first module with a NaN/Inf output."""

import argparse

from .arguments import add_config_arguments, config_keywords


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument('record', help='file non_finite_iter_*.pth in the work dir')


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.engine import load_config, replay

    print(replay(load_config(**config_keywords(args)), args.record))
    return 0
