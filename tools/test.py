"""Test with a config of ours, of MMPretrain's or of MMDetection's, and print its metrics."""

import argparse
import os
import sys
from pathlib import Path

try:
    from mmcrosscl.engine import build_runner, read_config
    from mmcrosscl.errors import InputError, sentence
except ImportError as error:
    sys.exit(f'error: {error}')
from mmengine.config import DictAction


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='trained model to test; left out where nothing is trained, as for nearest neighbours',
    )
    parser.add_argument('--work-dir', help='where to write; default work_dirs/<name of the config>')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings, for example test_dataloader.batch_size=16; a list is key="[a,b]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    args = parse_args()
    try:
        cfg = read_config(args.config, args.cfg_options, args.work_dir, args.launcher)
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
