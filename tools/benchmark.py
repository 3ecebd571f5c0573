"""Compare the loader, loss, step, communication and growth with plain implementations."""

import argparse
import io
import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

try:
    # some packages print messages when they are imported
    with redirect_stdout(io.StringIO()):
        from benchmarks import comm, flops, harness, loader, loss, scale, step
except ImportError as error:
    sys.exit(f'error: {error}')

PARTS = ('loader', 'loss', 'step', 'comm', 'scale', 'flops')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('part', choices=[*PARTS, 'all'], help='part to measure')
    parser.add_argument(
        '--rounds', type=int, default=7, help='number of measured runs per variant (default: 7)'
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='step: also measure with torch.compile, which takes minutes to compile',
    )
    parser.add_argument(
        '--images',
        type=int,
        default=10**7,
        help='scale: largest number of images in an index (default: 10000000)',
    )
    parser.add_argument(
        '--small', action='store_true', help='use tiny sizes, to check that the benchmark runs'
    )
    return parser.parse_args()


def report(part: str, rounds: int, small: bool, compiled: bool, images: int) -> str:
    """Return the tables of one part, in Markdown."""
    if part == 'loader':
        with TemporaryDirectory() as folder:
            return loader.report(Path(folder), rounds, images=4 if small else 64)
    if part == 'loss':
        sizes = dict(rows=32, negatives=512, channels=16, most=1024)
        if not small:
            sizes = dict(rows=1152, negatives=36_864, channels=256, most=1_000_000)
        return loss.report(rounds, **sizes)
    if part == 'step':
        sizes = dict(images=2, size=64, depth=18)
        if not small:
            sizes = dict(images=32 if torch.cuda.is_available() else 8, size=224, depth=50)
        return step.report(rounds, **sizes, compiled=compiled)
    if part == 'scale':
        sizes = dict(iterations=10**3, images=10**4, files=10)
        if not small:
            sizes = dict(iterations=10**6, images=images, files=10**4)
        return scale.report(min(rounds, 3), **sizes)
    if part == 'flops':
        sizes = dict(images=2, size=64, depth=18) if small else dict(images=8, size=224, depth=50)
        return flops.report(**sizes)
    return comm.report(rounds, images=2 if small else 8, processes=4)


def main() -> None:
    args = parse_args()
    if args.rounds < 1:
        sys.exit(f'error: --rounds is {args.rounds}; pass at least 1')
    print(f'{harness.machine()}\n')
    for part in PARTS if args.part == 'all' else [args.part]:
        print(report(part, args.rounds, args.small, args.compile, args.images), flush=True)


if __name__ == '__main__':
    main()
