"""Train with a config of mmcrosscl, MMPretrain or MMDetection.

With --gpus N, N processes train on this machine, one per GPU, or on the CPU if there is no GPU.
If a process dies, all processes are restarted from the newest checkpoint of the run.
"""

import argparse
from collections.abc import Iterator, Sequence

from .arguments import add_config_arguments, config_keywords


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const=True,
        default=False,
        metavar='CHECKPOINT',
        help='resume from CHECKPOINT or, if CHECKPOINT is omitted, from the newest checkpoint in '
        'the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision (float16, GPU only)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="multiply the learning rate by the total batch size divided by the config's "
        'auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--gpus',
        type=int,
        metavar='N',
        help='start N training processes on this machine; environment variables: NNODES, '
        'MASTER_ADDR and PORT for several machines, MAX_RESTARTS (default: 3) for restarts',
    )


def run(args: argparse.Namespace) -> int:
    if args.gpus is not None:
        from mmcrosscl.launch import launch

        return launch(list(_of_process(args.arguments)), args.gpus)

    from mmcrosscl.engine import build_runner, check_training, load_config

    cfg = load_config(
        **config_keywords(args),
        resume=args.resume,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
    )
    check_training(cfg)
    build_runner(cfg).train()
    return 0


def _of_process(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the arguments of each process: `--launcher pytorch` in the position of `--gpus N`.

    The position matters, because `--gpus` ends the values of the option before it.
    """
    remaining = iter(arguments)
    for argument in remaining:
        option, equals, _ = argument.partition('=')
        if option == '--gpus':
            if not equals:
                next(remaining)
            yield from ('--launcher', 'pytorch')
        else:
            yield argument
