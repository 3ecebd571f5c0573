"""Normalization of the images that a checkpoint was trained with, and placement of its strides."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from numbers import Real

from torch import Tensor

from mmcrosscl.errors import InputError

from .literals import UNKNOWN, read_literals

# authors of checkpoints whose models have Detectron2's default normalization
DETECTRON = ('Caffe2', 'FAIR', 'Detectron')

# settings of preprocessors that reverse the channels of the loaded image
SWAPS = ('to_rgb', 'bgr_to_rgb', 'rgb_to_bgr')
# name of the normalization in configs of MMCV
OLD = 'img_norm_cfg'

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class InputFormat:
    """Format of the images that a model reads.

    Attributes:
        mean: Mean of the three channels in ``channel_order``, for values from 0 to 255.
        std: Standard deviation of the three channels in ``channel_order``, for values from 0 to
            255.
        channel_order: 'rgb' or 'bgr'.
        style: For ResNets with bottlenecks, 'pytorch' if the 3×3 convolution of a bottleneck has
            the stride, or 'caffe' if its first 1×1 convolution has it. None for other backbones.
    """

    mean: Triple
    std: Triple
    channel_order: str = 'rgb'
    style: str | None = None

    def to_dict(self) -> dict:
        """Return a dict of lists and strings, for a checkpoint file."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: object) -> 'InputFormat':
        """Read the dict that :meth:`to_dict` returns.

        Args:
            values (object): Entry of a checkpoint file.

        Raises:
            InputError: If it is not a dict with these keys, or a value is invalid.
        """
        given = values if isinstance(values, Mapping) else {}
        mean, std = _triple(given.get('mean')), _triple(given.get('std'))
        order, style = given.get('channel_order'), given.get('style')
        valid = given.keys() == {'mean', 'std', 'channel_order', 'style'}
        valid = valid and style in ('pytorch', 'caffe', None)
        if not valid or order not in ('rgb', 'bgr') or not mean or not std or min(std) <= 0:
            raise InputError(
                f'the input_format of the checkpoint is {values}; expected a dict of mean and std '
                "(three numbers each, std above 0), channel_order ('rgb' or 'bgr') and style "
                "('pytorch', 'caffe' or None)"
            )
        return cls(mean, std, order, style)

    def reordered(self, channel_order: str) -> 'InputFormat':
        """Return the same normalization of images whose channels are in another order."""
        if channel_order == self.channel_order:
            return self
        return replace(self, mean=self.mean[::-1], std=self.std[::-1], channel_order=channel_order)

    def describe(self) -> str:
        """Format channel order, mean and standard deviation."""
        return (
            f'{self.channel_order.upper()} images with mean={numbers(self.mean)} and '
            f'std={numbers(self.std)}'
        )


# normalization of torchvision, MoCo and most other projects
IMAGENET = InputFormat((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 'rgb', 'pytorch')
# default of Detectron2
CAFFE = InputFormat((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), 'bgr', 'caffe')
NONE = InputFormat((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def read_input_format(checkpoint: Mapping, state: Mapping[str, Tensor], kind: str) -> InputFormat:
    """Return the input format of the model that a checkpoint was saved from.

    The first of these sources decides:

    1. The entry ``input_format``, which mmcrosscl writes.
    2. For Detectron2, the author of the file, and ``pixel_mean`` and ``pixel_std``. A model with a
       standard deviation of 1 has style 'caffe', as in Detectron2's configs.
    3. The config that MMEngine stores in a checkpoint. It is parsed as text, and no code in it is
       run.
    4. Torchvision's format.

    Args:
        checkpoint (Mapping): Contents of the file.
        state (Mapping[str, Tensor]): Its state dict.
        kind (str): ``kind`` of the format of the weight names.

    Returns:
        InputFormat: The format, with a style as if the backbone had bottlenecks.

    Raises:
        InputError: If the entry ``input_format`` is invalid.
    """
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    for entries in (meta, checkpoint):
        if 'input_format' in entries:
            return InputFormat.from_dict(entries['input_format'])
    if kind == 'Detectron2':
        return _of_detectron2(checkpoint, state)
    texts = [meta[entry] for entry in ('cfg', 'config') if isinstance(meta.get(entry), str)]
    return next(filter(None, map(_of_config, texts)), IMAGENET)


def preprocessor_input_format(settings: Mapping, loaded: str = 'bgr') -> InputFormat | None:
    """Return the input format in the config of a preprocessor, or None if a value is invalid.

    Args:
        settings (Mapping): Config of a preprocessor of MMDetection, MMPretrain or mmcrosscl.
            Without mean and std, images are not normalized.
        loaded (str): Channel order of the images before the preprocessor, 'rgb' or 'bgr'. Defaults
            to 'bgr', as in MMDetection and MMPretrain.
    """
    mean, std = settings.get('mean'), settings.get('std')
    mean = NONE.mean if mean is None else _triple(mean)
    std = NONE.std if std is None else _triple(std)
    if mean is None or std is None or min(std) <= 0:
        return None
    swapped = any(settings.get(key) for key in SWAPS)
    order = dict(rgb='bgr', bgr='rgb')[loaded] if swapped else loaded
    return InputFormat(mean, std, order)


def close(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Return whether numbers are equal up to the rounding of float32 and of configs."""
    return all(math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-6) for a, b in zip(first, second))


def same(first: InputFormat, second: InputFormat) -> bool:
    """Return whether images in both formats have equal values."""
    return (
        first.channel_order == second.channel_order
        and close(first.mean, second.mean)
        and close(first.std, second.std)
    )


def _of_detectron2(checkpoint: Mapping, state: Mapping[str, Tensor]) -> InputFormat:
    author = checkpoint.get('__author__')
    # a flat state dict has no author, and means torchvision's format in every project
    foreign = isinstance(author, str) and not author.startswith(DETECTRON)
    default = IMAGENET if foreign or 'model' not in checkpoint else CAFFE
    mean, std = (
        _triple(state[name].flatten().tolist()) if name in state else None
        for name in ('pixel_mean', 'pixel_std')
    )
    if mean is None or std is None or min(std) <= 0:
        return default
    order = 'bgr' if mean[0] < mean[2] else 'rgb'
    return InputFormat(mean, std, order, 'caffe' if set(std) == {1.0} else 'pytorch')


def _of_config(text: str) -> InputFormat | None:
    """Return the input format in the text of a config of MMEngine or MMCV, or None."""
    config = read_literals(text, ('model', 'data_preprocessor', OLD))
    model = _dict(config.get('model'))
    # images of mmcrosscl are loaded as RGB, and those of the other projects as BGR
    ours = str(model.get('type')).endswith('CrossCL')
    # releases before MMEngine normalize images in the data pipeline
    entries = (model.get('data_preprocessor'), *map(config.get, ('data_preprocessor', OLD)))
    preprocessor = next((x for x in entries if x is not None), {} if ours else UNKNOWN)
    if not isinstance(preprocessor, Mapping) or UNKNOWN in map(preprocessor.get, SWAPS):
        return None
    kind = preprocessor.get('type')
    rgb = str(kind).endswith('ViewPreprocessor') if kind else ours
    found = preprocessor_input_format(preprocessor, loaded='rgb' if rgb else 'bgr')
    style = 'caffe' if _dict(model.get('backbone')).get('style') == 'caffe' else 'pytorch'
    return found and replace(found, style=style)


def _dict(value: object) -> Mapping:
    return value if isinstance(value, Mapping) else {}


def _triple(values: object) -> Triple | None:
    """Return three finite numbers, of which one stands for three equal ones, or None."""
    if not isinstance(values, list | tuple) or len(values) not in (1, 3):
        return None
    if not all(isinstance(x, Real) and math.isfinite(x) for x in values):
        return None
    first, *rest = map(float, values)
    second, third = rest or (first, first)
    return first, second, third


def numbers(values: Triple) -> str:
    """Format three numbers as in a config."""
    return f'[{", ".join(f"{x:g}" for x in values)}]'
