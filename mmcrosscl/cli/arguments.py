"""Arguments that several verbs share."""

import argparse
import os
import re

from mmcrosscl.option_values import parse_value

# `dict(…)` or `{key: …}` as a value or as an item of a list; braces within a text are not a dict
DICT = re.compile(r"""(^|[\[(,:=])\s*(dict\(|\{[^{}]*:[^{}]*\}\s*($|[\]),}]))""")


class Options(argparse.Action):
    """KEY=VALUE arguments. An argument without `=`, or with a dict, is a usage error."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        options = dict(getattr(namespace, self.dest, None) or {})
        for option in values:
            key, equals, value = option.partition('=')
            if not equals:
                parser.error(f'{option_string}: expected KEY=VALUE, but got {option!r}')
            if DICT.search(value.strip('\'"')):
                parser.error(
                    f'{option_string}: {key} contains a dict, which a command line cannot express; '
                    'set it in a config file that inherits from this one, or in that of --changes '
                    'of mmcrosscl pretrain'
                )
            try:
                options[key] = parse_value(value)
            except ValueError as error:
                parser.error(f'{option_string}: {key} is not a value: {error}')
        setattr(namespace, self.dest, options)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config file and the arguments that change it; see :func:`config_keywords`."""
    parser.add_argument(
        'config', help='config file, or PACKAGE::CONFIG such as mmcrosscl::crosscl/r50_8xb32.py'
    )
    parser.add_argument(
        '--work-dir', help='folder for results; default: work_dirs/<name of the config>'
    )
    add_option_argument(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help='program that starts the processes: pytorch for torchrun, slurm for srun',
    )
    add_trust_argument(parser)
    # torch.distributed.launch passes the rank as this argument, torchrun as LOCAL_RANK
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_option_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--cfg-options`."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        metavar='KEY=VALUE',
        help='override settings, such as train_dataloader.batch_size=16; write a list as '
        'key="[a,b]" and quote a text with commas, as in key="\'a,b\'"; +key=value adds a setting '
        'that the config does not have',
    )


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--trust-checkpoints`."""
    parser.add_argument(
        '--trust-checkpoints',
        action='store_true',
        help='unpickle all objects in checkpoints; this runs any code in a checkpoint with your '
        'permissions',
    )


def add_labeled_arguments(parser: argparse.ArgumentParser, required: bool) -> None:
    """Add the COCO files of the training images and of the test images, and their folders."""
    for split, name in (('train', 'labeled training images'), ('test', 'test images')):
        parser.add_argument(f'--{split}', required=required, metavar='COCO_JSON', help=name)
        parser.add_argument(
            f'--{split}-images',
            metavar='FOLDER',
            help=f'images of --{split}; default: searched beside the file',
        )


def add_size_argument(parser: argparse.ArgumentParser, name: str, required: bool) -> None:
    """Add an option with the sizes of label subsets."""
    parser.add_argument(
        name,
        nargs='+',
        type=size,
        required=required,
        metavar='SIZE',
        help='numbers of labeled images, such as 50 200, or shares, such as 1%% 10%%',
    )


def size(text: str) -> int | float:
    """Return a number of images, or a share such as '10%' as a float."""
    return float(text[:-1]) / 100 if text.endswith('%') else int(text)


def config_keywords(args: argparse.Namespace) -> dict:
    """Return the keywords of :func:`mmcrosscl.engine.load_config` for these arguments."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return dict(
        config=args.config,
        work_dir=args.work_dir,
        options=args.cfg_options,
        launcher=args.launcher,
        trust_checkpoints=args.trust_checkpoints,
    )
