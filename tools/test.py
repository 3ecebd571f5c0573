"""Test with a config of ours, of MMPretrain's or of MMDetection's, and print its metrics."""

import argparse
import sys
from pathlib import Path

try:
    from mmcrosscl.engine import add_config_arguments, build_runner, read_config
    from mmcrosscl.errors import InputError, sentence
except ImportError as error:
    sys.exit(f'error: {error}')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='trained model to test; left out where nothing is trained, as for nearest neighbours',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        cfg = read_config(args)
        if cfg.get('test_dataloader') is None:
            raise InputError(f'{args.config} has no test_dataloader; give a config with a test')
        if args.checkpoint is not None:
            if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
                raise InputError(f'checkpoint {args.checkpoint} does not exist')
            cfg.load_from = args.checkpoint
        elif cfg.get('train_cfg') is not None and cfg.get('load_from') is None:
            raise InputError(f'{args.config} is trained before it is tested; name its checkpoint')
        build_runner(cfg).test()
    except InputError as error:
        sys.exit(f'error: {sentence(error)}')


if __name__ == '__main__':
    main()
