"""Train with a config of ours, of MMPretrain's or of MMDetection's."""

import argparse
import os
import signal
import sys

try:
    from mmcrosscl.engine import add_config_arguments, build_runner, read_config
    from mmcrosscl.errors import InputError, RunError, sentence
except ImportError as error:
    sys.exit(f'error: {error}')
from mmengine.config import Config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a name, from the newest one in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision (GPU only)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the real batch over the config's base_batch_size",
    )
    return parser.parse_args()


def load_config(args: argparse.Namespace) -> Config:
    cfg = read_config(args)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        # whose momentum is left unset if the first step's gradients overflow
        cfg.optim_wrapper.optimizer.pop('fused', None)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise InputError(
                f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size; add the '
                'batch size that its learning rate is for'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    return cfg


def main() -> None:
    args = parse_args()
    try:
        build_runner(load_config(args)).train()
    except RunError as error:
        sys.exit(f'error: {error}')
    except InputError as error:
        # starting again does not mend it: torchrun is told to leave off
        if 'TORCHELASTIC_RUN_ID' in os.environ and os.environ['LOCAL_RANK'] == '0':
            os.kill(os.getppid(), signal.SIGTERM)
        sys.exit(f'error: {sentence(error)}')


if __name__ == '__main__':
    main()
