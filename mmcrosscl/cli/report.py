"""Write one HTML page about one or more runs, also during training.

The page contains the curves, the results of `mmcrosscl similarity`, sample views, the configuration
and its differences from the published recipe, the machine, interruptions, unreadable images, and
the commands to continue. It needs no network. Several runs are drawn in the same plots.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='work dir of a run')
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='file to write; default: report.html in the first WORK_DIR',
    )


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.reports import write_report

    print(write_report(args.work_dirs, args.out))
    return 0
