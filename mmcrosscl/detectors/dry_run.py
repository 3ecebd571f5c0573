"""Channels, strides and gradients of a detector's backbone and neck, found by running them."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmcrosscl.errors import InputError

from .detector import Detector
from .levels import choose_levels
from .view_size import VIEW_SIZE

# sides of the images in pixels; some necks, such as that of SSD, need more than 256
SIZES = (256, 512)
EMBED_CHANNELS = 256


@dataclass(frozen=True)
class Features:
    """What a detector's backbone and neck compute.

    Attributes:
        view_size: Side of the views in pixels: the wanted one or, if the backbone and the neck need
            larger views or another multiple of a stride, the next size at which they run.
        neck: Config of the neck or necks. An FPN that only pre-training uses if the detector has
            none.
        stage_channels: Number of channels of each backbone stage.
        stage_strides: Stride of each backbone stage in pixels; 0 if it is not a power of two.
        map_channels: Number of channels of each map that the neck returns.
        map_strides: Stride of each map in pixels; 0 if it is not a power of two.
        levels: Name and stride of each level whose maps are trained.
        batch_norm: Whether the backbone has batch-norm layers.
        channels_last: Whether backbone and neck compute the same in channels-last memory. Some ops
            of mmcv do not.
        parameters: Number of parameters of the backbone and of the detector's own neck.
        reached: Number of these parameters that a loss term reaches.
        unreached: Names of the parameters of backbone and neck that no loss term reaches.
    """

    view_size: int
    neck: dict | list[dict]
    stage_channels: tuple[int, ...]
    stage_strides: tuple[int, ...]
    map_channels: tuple[int, ...]
    map_strides: tuple[int, ...]
    levels: dict[str, int]
    batch_norm: bool
    channels_last: bool
    parameters: int
    reached: int
    unreached: tuple[str, ...]

    @property
    def level_channels(self) -> dict[str, int]:
        """Number of channels of each of the ``levels``."""
        return {level: self.channels(stride) for level, stride in self.levels.items()}

    def channels(self, stride: int) -> int:
        """Return the number of channels of the first map with a stride."""
        return self.map_channels[self.map_strides.index(stride)]


def dry_run(
    detector: Detector, view_size: int = VIEW_SIZE, levels: Mapping[str, int] | None = None
) -> Features:
    """Build the backbone and the neck of a detector, and run them once, on the GPU if there is one.

    Args:
        detector (Detector): See :func:`find_detector`.
        view_size (int): Wanted side of the views in pixels. Defaults to 224.
        levels (Mapping[str, int], optional): Name and stride of each level whose maps are trained;
            empty for the global term alone. Defaults to the result of :func:`choose_levels`.

    Raises:
        InputError: If a component is not registered, cannot be built or does not run, if it does
            not return feature maps, or if no map has the stride of a level.
    """
    with (
        DefaultScope.overwrite_default_scope(detector.scope),
        torch.random.fork_rng(devices=[]),
    ):
        *smaller, largest = SIZES
        for size in smaller:
            with suppress(InputError):
                return _run(detector, size, view_size, levels)
        return _run(detector, largest, view_size, levels)


def _run(
    detector: Detector, size: int, wanted: int, given: Mapping[str, int] | None = None
) -> Features:
    backbone = _build(detector, 'backbone', detector.backbone)
    # two images, because batch norm rejects a single value per channel
    images = torch.randn(2, 3, size, size, device=_device())
    stages = _maps(detector, 'backbone', lambda: backbone(images))
    settings = detector.neck
    if settings is None:
        channels = [stage.shape[1] for stage in stages]
        settings = dict(
            type='mmdet.FPN',
            in_channels=channels,
            out_channels=EMBED_CHANNELS,
            num_outs=len(channels),
        )
    neck = _build(detector, 'neck', settings)
    maps = _maps(detector, 'neck', lambda: neck(stages))
    strides = tuple(_stride(x, size) for x in maps)
    levels = choose_levels(strides) if given is None else dict(given)
    if missing := [level for level, stride in levels.items() if stride not in strides]:
        raise InputError(
            f'{detector.name}: no map of the neck has the stride of level {", ".join(missing)}; '
            f'the strides are {", ".join(map(str, strides))}'
        )
    if not levels and given is None:
        raise InputError(
            f'{detector.name}: no map of the neck has a stride that is a power of two, so no level '
            'can be contrasted; use another neck'
        )
    used = [maps[strides.index(stride)] for stride in levels.values()]
    sum((x.mean() for x in (*used, stages[-1])), images.new_zeros(())).backward()
    modules = dict(backbone=backbone) | ({} if detector.neck is None else dict(neck=neck))
    named = {
        f'{part}.{name}': parameter
        for part, module in modules.items()
        for name, parameter in module.named_parameters()
    }
    unreached = tuple(name for name, parameter in named.items() if parameter.grad is None)
    total = sum(parameter.numel() for parameter in named.values())
    return Features(
        view_size=_view_size(detector, backbone, neck, stages, size, levels, wanted),
        neck=settings,
        stage_channels=tuple(stage.shape[1] for stage in stages),
        stage_strides=tuple(_stride(x, size) for x in stages),
        map_channels=tuple(x.shape[1] for x in maps),
        map_strides=strides,
        levels=levels,
        batch_norm=any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in backbone.modules()),
        channels_last=_supports_channels_last(backbone, neck, images),
        parameters=total,
        reached=total - sum(named[name].numel() for name in unreached),
        unreached=unreached,
    )


def _device() -> str:
    # some ops of mmcv, such as CARAFE, have no kernel for CPUs
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def _build(detector: Detector, part: str, settings: dict | list[dict]) -> nn.Module:
    try:
        return MODELS.build(settings).to(_device())
    # the constructor of a component may raise any exception
    except Exception as error:
        if isinstance(error, KeyError) and 'registry' in str(error):
            kind = settings.get('type') if isinstance(settings, dict) else 'a component'
            raise InputError(
                f'{detector.name}: the {part} {kind} is not registered; add the module that '
                'defines it to custom_imports in the config'
            ) from error
        raise InputError(
            f'{detector.name}: the {part} cannot be built ({_first_line(error)}); correct the '
            'config of the detector'
        ) from error


def _maps(detector: Detector, part: str, forward: Callable[[], object]) -> tuple[Tensor, ...]:
    try:
        outputs = forward()
    # the forward of a component may raise any exception
    except Exception as error:
        kind = 'GPU' if _device() == 'cuda' else 'CPU'
        raise InputError(
            f'{detector.name}: the {part} does not run on a {kind} ({_first_line(error)}); '
            'pre-training needs a backbone and a neck that do'
        ) from error
    outputs = _in_tuple(outputs)
    valid = isinstance(outputs, Sequence) and all(
        isinstance(x, Tensor) and x.ndim == 4 and len(x) == 2 for x in outputs
    )
    if not valid or not outputs:
        raise InputError(
            f'{detector.name}: the {part} does not return one feature map of shape (N, C, H, W) '
            'per level, which pre-training needs; use another one'
        )
    return tuple(outputs)


@torch.no_grad()
def _view_size(
    detector: Detector,
    backbone: nn.Module,
    neck: nn.Module,
    stages: Sequence[Tensor],
    size: int,
    levels: dict[str, int],
    wanted: int,
) -> int:
    strides = [_stride(stage, size) for stage in stages]
    divisor = math.lcm(*filter(None, strides), *levels.values())
    smallest = math.ceil(wanted / divisor) * divisor
    for candidate in sorted({smallest, *SIZES} - set(range(smallest))):
        images = torch.zeros(2, 3, candidate, candidate, device=_device())
        with suppress(InputError):
            _maps(detector, 'neck', partial(lambda x: neck(backbone(x)), images))
            return candidate
    return size


@torch.no_grad()
def _supports_channels_last(backbone: nn.Module, neck: nn.Module, images: Tensor) -> bool:
    # without drop path and batch statistics
    modules = nn.ModuleList([backbone, neck]).eval()
    images = images[:1]
    expected = neck(backbone(images))
    try:
        # the stub of torch has no overload for the memory format alone
        modules.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = neck(backbone(images.contiguous(memory_format=torch.channels_last)))
    # some layers view a weight as a matrix
    except RuntimeError:
        return False
    finally:
        modules.to(memory_format=torch.contiguous_format).train()  # type: ignore[call-overload]
    pairs = zip(_in_tuple(expected), _in_tuple(found))
    return all((a - b).abs().max() <= 1e-3 * a.abs().max() for a, b in pairs)


def _in_tuple(outputs: Any) -> Any:
    """Return a single map as a tuple."""
    return (outputs,) if isinstance(outputs, Tensor) else outputs


def _stride(feature_map: Tensor, size: int) -> int:
    """Return the stride of a square map if it is a power of two, and 0 otherwise."""
    height, width = feature_map.shape[-2:]
    return size // width if height == width and size % width == 0 else 0


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0][:200]
