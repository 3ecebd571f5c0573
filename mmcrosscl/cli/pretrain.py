"""Pre-train the backbone and neck of a detector of MMDetection on a folder of images.

Reads the backbone, the neck and the normalization from the config of the detector. Writes a
pre-training config to the work dir, trains with it, and writes a checkpoint for the detector.
"""

import argparse

from .arguments import add_option_argument

# copy of mmcrosscl.detectors.TERMS, whose import would import torch; a test compares them
TERMS = ('global', 'within', 'crosscl')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--detector',
        required=True,
        metavar='CONFIG',
        help='config file of the detector, or PACKAGE::CONFIG such as '
        'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py',
    )
    parser.add_argument(
        '--data', required=True, metavar='FOLDER', help='images, including those in subfolders'
    )
    parser.add_argument('--work-dir', required=True, metavar='FOLDER', help='folder for results')
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        '--epochs', type=int, metavar='N', help='default: 200, but at least 5,000 iterations'
    )
    length.add_argument('--iters', type=int, metavar='N', help='iterations, instead of epochs')
    parser.add_argument(
        '--batch-size', type=int, metavar='N', help='images per process; default: 32'
    )
    parser.add_argument(
        '--gpus', type=int, metavar='N', help='start N training processes on this machine'
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        '--from-scratch',
        action='store_true',
        help='start from random weights; default: start from load_from of the detector config, or '
        'from the weights that its backbone loads',
    )
    start.add_argument(
        '--weights',
        metavar='FILE',
        help='checkpoint to start from, such as that of a detector trained on COCO',
    )
    parser.add_argument(
        '--terms',
        choices=TERMS,
        default='crosscl',
        help='loss terms: crosscl, or its ablations within (without the cross-level terms) and '
        'global (MoCo v2); default: crosscl',
    )
    parser.add_argument(
        '--changes',
        metavar='CONFIG',
        help='config file with settings that change the written config, for settings that '
        '--cfg-options cannot express, such as loss terms',
    )
    parser.add_argument(
        '--resume', action='store_true', help='resume from the newest checkpoint in the work dir'
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision (float16, GPU only)')
    add_option_argument(parser)


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.api import pretrain

    pretrain(
        args.detector,
        args.data,
        args.work_dir,
        epochs=args.epochs,
        iters=args.iters,
        batch_size=args.batch_size,
        gpus=args.gpus,
        from_scratch=args.from_scratch,
        weights=args.weights,
        terms=args.terms,
        changes=args.changes,
        resume=args.resume,
        amp=args.amp,
        options=args.cfg_options,
    )
    return 0
