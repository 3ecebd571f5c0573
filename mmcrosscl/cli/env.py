"""Print versions, compiled ops, GPUs, precision and problems to fix, for a bug report."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # the verb has no arguments


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.environment import describe_environment

    text, fixes = describe_environment()
    print(text)
    return 1 if fixes else 0
