"""Run a training step again whose loss or gradient was not finite."""

import argparse
import sys

try:
    from mmcrosscl.engine import add_config_arguments, read_config, replay
    from mmcrosscl.errors import InputError, sentence
except ImportError as error:
    sys.exit(f'error: {error}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument('record', help='non_finite_iter_*.pth, which training wrote')
    args = parser.parse_args()
    try:
        print(replay(read_config(args), args.record))
    except InputError as error:
        sys.exit(f'error: {sentence(error)}')


if __name__ == '__main__':
    main()
