"""Find out whether pre-training helps on your images: compare the starts of a detector.

Pre-trains the detector in several ways (the arms), fine-tunes it with different numbers of labels
and several seeds, and evaluates it on the test images. Each arm has its own learning rate, which is
chosen on a fifth of the labeled training images. The study can be interrupted at any time. With
only --work-dir, the study in this folder is resumed, and its results are written again. Several
processes can run one study, such as the tasks of a Slurm array.

Arms: random (random weights); global, within and crosscl (pre-training from random weights with the
term of MoCo v2, with the within-level terms added, and with all terms); weights or weights=FILE
(the weights that the detector config loads, or a checkpoint); crosscl+weights or
crosscl+weights=FILE (pre-training that starts from them); crosscl@CONFIG (pre-training with
settings from a config file). @CONFIG and +weights also follow global and within.
"""

import argparse

from .arguments import add_labeled_arguments, add_size_argument

REQUIRED = ('detector', 'unlabeled', 'train', 'test', 'arms', 'labels')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--work-dir', required=True, metavar='FOLDER', help='folder for results')
    parser.add_argument('--detector', metavar='CONFIG', help='config of the detector')
    parser.add_argument('--unlabeled', metavar='FOLDER', help='images without labels')
    add_labeled_arguments(parser, required=False)
    parser.add_argument('--arms', nargs='+', metavar='ARM', help='what the detector starts from')
    add_size_argument(parser, '--labels', required=False)
    parser.add_argument('--seeds', type=int, metavar='N', help='default: 3')
    parser.add_argument(
        '--rates',
        nargs='+',
        type=float,
        metavar='LR',
        help='learning rates of the fine-tuning to choose from; default: 1/4, 1/2, 1 and 2 times '
        'that of the detector config, scaled to the batch size',
    )
    parser.add_argument(
        '--pretrain-iters',
        type=int,
        metavar='N',
        help='default: 200 epochs, but at least 5,000 iterations',
    )
    parser.add_argument(
        '--pretrain-batch', type=int, metavar='N', help='images per iteration; default: 32'
    )
    parser.add_argument('--fine-tune-iters', type=int, metavar='N', help='default: 1000')
    parser.add_argument(
        '--fine-tune-batch',
        type=int,
        metavar='N',
        help='images per iteration; default: that of the detector config',
    )
    parser.add_argument(
        '--results',
        metavar='FILE',
        help='only write table, plot and page from this results.json to --work-dir',
    )


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.errors import InputError
    from mmcrosscl.studies import publish, read_results_file, run_study

    if args.results is not None:
        for path in publish(read_results_file(args.results), args.work_dir):
            print(path)
        return 0
    names = (
        *REQUIRED, 'train_images', 'test_images', 'seeds', 'rates', 'pretrain_iters',
        'pretrain_batch', 'fine_tune_iters', 'fine_tune_batch',
    )  # fmt: skip
    settings = {name: value for name in names if (value := getattr(args, name)) is not None}
    if settings and (missing := [name for name in REQUIRED if name not in settings]):
        raise InputError(
            f'--{missing[0]} is missing; pass it, or only --work-dir to resume a study'
        )
    print(run_study(args.work_dir, settings or None))
    return 0
