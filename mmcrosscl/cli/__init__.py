"""The command `mmcrosscl`, with one module per verb.

The docstring of a module is the help of its verb. The module defines ``add_arguments(parser)`` and
``run(args)``, which returns the exit status. A verb imports torch and the OpenMMLab packages within
``run``, so that the help is fast.
"""

import argparse
import os
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
    UNUSABLE,
    UNWRITABLE,
    InputError,
    Preempted,
    RunError,
    inaccessible,
    sentence,
)
from mmcrosscl.quiet import quiet_output
from mmcrosscl.version import __version__

VERBS = (
    'pretrain',
    'train',
    'test',
    'similarity',
    'probe',
    'report',
    'convert',
    'plot',
    'views',
    'replay',
    'study',
    'scenes',
    'subsets',
    'index',
    'shard',
    'demo',
    'env',
)
EXIT_STATUS = """\
exit status:
  0   success
  1   invalid input; the error message says how to fix it
  2   wrong usage of the command
  65  several consecutive training steps were NaN/Inf
  70  unexpected error, with a traceback
  74  failure of the machine, not of the input; rerun with --resume
  75  preempted, after a checkpoint was saved or before the first iteration; rerun with
      --resume
  130 interrupted by Ctrl-C, without saving a checkpoint; rerun with --resume
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.

    Args:
        arguments (Sequence[str], optional): The verb and its arguments. Defaults to the arguments
            of the process.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    args = build_parser().parse_args(arguments)
    args.arguments = arguments[1:]
    try:
        if args.verb != 'env':
            check_requirements()
    except ImportError as error:
        return _fail(str(error), EXIT_INPUT)
    try:
        with quiet_output():
            return args.run(args)
    except (InputError, RunError) as error:
        return _fail(sentence(error), error.exit_status)
    except Preempted as preempted:
        # A launcher may repeat its signal while Python exits. The exit status must stay 75.
        for number in PREEMPTING:
            signal.signal(number, signal.SIG_IGN)
        return preempted.code
    except KeyboardInterrupt:
        return _fail('interrupted', 128 + signal.SIGINT)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNUSABLE and error.filename is not None:
            if error.errno not in UNWRITABLE:
                return _fail(str(inaccessible(error)), EXIT_INPUT)
            return _fail(
                f'cannot write {os.fsdecode(error.filename)}: {error.strerror}; free disk space, '
                'make the folder writable, or choose another folder',
                EXIT_INPUT,
            )
        traceback.print_exc()
        return EXIT_UNEXPECTED


def _fail(message: str, status: int) -> int:
    print(f'error: {message}', file=sys.stderr)
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with a sub-parser per verb."""
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
        summary = (module.__doc__ or name).splitlines()[0].rstrip('.')
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
