"""The command `mmcrosscl`: one module a verb.

A verb's module has a docstring, which is its help, ``add_arguments(parser)`` and ``run(args)``,
which returns the exit status. Verbs import torch and the OpenMMLab packages within ``run``, so
that the help stays fast.
"""

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from mmcrosscl.dependencies import check_requirements
from mmcrosscl.errors import (
    EXIT_INPUT,
    EXIT_UNEXPECTED,
    PREEMPTING,
    InputError,
    Preempted,
    RunError,
    sentence,
)
from mmcrosscl.version import __version__

VERBS = ('train', 'test', 'convert', 'plot', 'replay', 'demo', 'env')
EXIT_STATUS = """\
exit status:
  0   success
  1   the input needs a fix, which the message names
  2   wrong usage of the command
  70  an unexpected error, with a traceback
  74  the machine failed, not the input: run it again with --resume
  75  preempted after a checkpoint was saved: run it again with --resume
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.

    Args:
        arguments (Sequence[str], optional): The verb and its arguments. Defaults to those of the
            process.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    args = _parser().parse_args(arguments)
    args.arguments = arguments[1:]
    try:
        if args.verb != 'env':
            check_requirements()
    except ImportError as error:
        return _fail(str(error), EXIT_INPUT)
    try:
        return args.run(args)
    except (InputError, RunError) as error:
        return _fail(sentence(error), error.exit_status)
    except Preempted as preempted:
        # A launcher may send its signal again while Python exits; the status must remain.
        for number in PREEMPTING:
            signal.signal(number, signal.SIG_IGN)
        return preempted.code
    except KeyboardInterrupt:
        return _fail('interrupted', 128 + signal.SIGINT)
    except Exception:
        traceback.print_exc()
        return EXIT_UNEXPECTED


def _fail(message: str, status: int) -> int:
    print(f'error: {message}', file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='mmcrosscl',
        description='Pre-train the backbone and neck of an object detector without labels.',
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'mmcrosscl {__version__}')
    verbs = parser.add_subparsers(dest='verb', metavar='VERB', required=True)
    for name in VERBS:
        module = import_module(f'.{name}', __package__)
        summary = module.__doc__.splitlines()[0].rstrip('.')
        verb = verbs.add_parser(
            name,
            help=summary[0].lower() + summary[1:],
            description=module.__doc__,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(verb)
        verb.set_defaults(run=module.run)
    return parser
