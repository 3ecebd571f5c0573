"""The feature pyramid of the published method."""

import math
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmpretrain.models.necks import MoCoV2Neck
from torch import Tensor, nn

from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS

STRIDES = (4, 8, 16, 32, 64, 128)


@MODELS.register_module()
class CrossCLNeck(BaseModule):
    """Feature pyramid of the backbone's stages, and MoCo v2's projection of the last stage.

    The pyramid follows Lin et al., 2017 (https://arxiv.org/abs/1612.03144): 1×1 lateral
    convolutions, a top-down path with nearest 2× upsampling, and a 3×3 output convolution for each
    requested level. A level with a larger stride than the last stage is subsampled from the level
    with half its stride, as in MMDetection's ``FPN`` without extra convolutions.

    A detector's neck loads the weights without conversion, because the parameter names
    ``lateral_convs.i`` and ``fpn_convs.i`` with i = log2(stride / 4) equal the names of
    MMDetection's ``FPN`` over C2 to C5.

    Attributes:
        levels (tuple[str, ...]): Names of the pyramid levels.
        strides (dict[str, int]): Stride of each level in pixels of the view.
        feat_dim (int): Length of the global vector.

    Args:
        in_channels (Sequence[int]): Number of channels of each backbone stage, from shallow to
            deep. Defaults to C3, C4 and C5 of ResNet-50.
        levels (Mapping[str, int]): Name and stride in pixels of each pyramid level to return. Names
            can be chosen freely. Strides range from the stride of the shallowest stage to 128. A
            config that inherits ``levels`` adds levels, or replaces all levels with
            ``_delete_=True``. Defaults to P4 and P3.
        out_channels (int): Number of channels of every pyramid level. Defaults to 256.
        hid_channels (int): Width of the projection's hidden layer. Defaults to 2048.
        feat_dim (int): Length of the global vector. Defaults to 128.
        norm_cfg (dict, optional): Config of the norm layer after every pyramid convolution. A
            convolution with a norm layer has no bias. Defaults to None (no norm layers).
        init_cfg (dict, optional): Defaults to Caffe2's Xavier initialization of the convolutions,
            with zero biases.
        stage_strides (Sequence[int], optional): Stride of each stage, which is twice the stride of
            the previous stage. Defaults to None (strides that end at 32).

    Raises:
        InputError: If the stages, the strides and the levels do not match.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (512, 1024, 2048),
        levels: Mapping[str, int] = dict(p4=16, p3=8),
        out_channels: int = 256,
        hid_channels: int = 2048,
        feat_dim: int = 128,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = dict(type='Caffe2Xavier', layer='Conv2d'),
        stage_strides: Sequence[int] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = tuple(in_channels)
        self.stage_strides = _stage_strides(len(self.in_channels), stage_strides)
        self.strides = _level_strides(levels, self.stage_strides)
        self.levels = tuple(self.strides)
        self.feat_dim = feat_dim
        deepest = self.stage_strides[-1]
        # a level with a larger stride than the last stage is subsampled from that stage's output
        outputs = dict.fromkeys(min(stride, deepest) for stride in self.strides.values())
        conv = dict(out_channels=out_channels, norm_cfg=norm_cfg, act_cfg=None)
        self.lateral_convs = nn.ModuleDict(
            {
                _index(stride): ConvModule(channels, kernel_size=1, **conv)
                for stride, channels in zip(self.stage_strides, self.in_channels)
                # the lateral of a stage shallower than all levels would get no gradient
                if stride >= min(outputs)
            }
        )
        self.fpn_convs = nn.ModuleDict(
            {
                _index(stride): ConvModule(out_channels, kernel_size=3, padding=1, **conv)
                for stride in outputs
            }
        )
        self.projection = MoCoV2Neck(self.in_channels[-1], hid_channels, feat_dim)

    def forward(self, stages: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the pyramid levels and the global vector.

        Args:
            stages (Sequence[Tensor]): (N, Cᵢ, Hᵢ, Wᵢ) maps from shallow to deep. Each map has half
                the height and half the width of the previous map.

        Returns:
            dict[str, Tensor]: The global vectors 'global', (N, feat_dim), and one
            (N, out_channels, H, W) map per level, with the level's name as the key. The features
            are not normalized.

        Raises:
            InputError: If the number, the channels or the sizes of the stages are not as expected.
        """
        self._check(stages)
        features = {'global': self.projection(stages[-1:])[0]}
        maps: dict[int, Tensor] = {}
        lateral: Tensor | None = None
        for stride, stage in zip(reversed(self.stage_strides), reversed(stages)):
            if (index := _index(stride)) not in self.lateral_convs:
                break
            above, lateral = lateral, self.lateral_convs[index](stage)
            if above is not None:
                lateral = lateral + F.interpolate(above, scale_factor=2, mode='nearest')
            if index in self.fpn_convs:
                maps[stride] = self.fpn_convs[index](lateral)
        stride = self.stage_strides[-1]
        while stride < max(self.strides.values()):
            maps[2 * stride] = F.max_pool2d(maps[stride], kernel_size=1, stride=2)
            stride *= 2
        return features | {level: maps[stride] for level, stride in self.strides.items()}

    def _check(self, stages: Sequence[Tensor]) -> None:
        shapes = [tuple(x.shape) for x in stages]
        if any(len(shape) != 4 for shape in shapes):
            raise InputError(
                f'the backbone returned shapes {shapes}, which are not maps (N, C, H, W); set the '
                "backbone's option for maps, such as gap_before_final_norm=False of ConvNeXt"
            )
        if len(shapes) != len(self.in_channels) or any(
            shape[1] != channels for shape, channels in zip(shapes, self.in_channels)
        ):
            raise InputError(
                f'the neck expected stages with {self.in_channels} channels, but got shapes '
                f"{shapes} from the backbone; set the backbone's out_indices and the neck's "
                'in_channels to the same stages'
            )
        for shallow, deep in zip(shapes, shapes[1:]):
            # backbones round half of an odd number up or down
            if any(abs(2 * half - side) > 1 for side, half in zip(shallow[2:], deep[2:])):
                raise InputError(
                    f'consecutive stages have {shallow[2:]} and {deep[2:]} cells, but the stride '
                    "must double from stage to stage; set the backbone's out_indices and the "
                    "neck's in_channels to such stages"
                )
            if shallow[2:] != (2 * deep[2], 2 * deep[3]):
                multiple = math.lcm(*self.stage_strides, *self.strides.values())
                raise InputError(
                    f'consecutive stages have {shallow[2:]} and {deep[2:]} cells, because the view '
                    f'size is not a multiple of every stride; use a multiple of {multiple}'
                )


def _index(stride: int) -> str:
    """Return a stride's index in the parameter names of MMDetection's ``FPN`` over C2 to C5."""
    return str(STRIDES.index(stride))


def _stage_strides(stages: int, strides: Sequence[int] | None) -> tuple[int, ...]:
    if strides is None and 1 <= stages <= 4:
        strides = STRIDES[4 - stages : 4]
    strides = tuple(strides or ())
    # valid strides are consecutive powers of two, so they are a slice of STRIDES
    first = STRIDES.index(strides[0]) if strides and strides[0] in STRIDES else 0
    if len(strides) != stages or not strides or strides != STRIDES[first : first + stages]:
        raise InputError(
            f'stage_strides is {strides} for {stages} stages; set in_channels for one to four '
            'stages that end at stride 32, or set one stride per stage, from 4 to 128, each twice '
            'the previous stride'
        )
    return strides


def _level_strides(levels: Mapping[str, int], stages: tuple[int, ...]) -> dict[str, int]:
    if not isinstance(levels, Mapping) or not levels:
        raise InputError(
            f'levels is {levels}; set the name and stride of at least one level, such as '
            'dict(p4=16, p3=8)'
        )
    possible = [stride for stride in STRIDES if stride >= stages[0]]
    for level, stride in levels.items():
        if stride not in possible or level == 'global':
            raise InputError(
                f'level {level!r} with stride {stride} is invalid for stages of strides '
                f'{", ".join(map(str, stages))}; set a stride of {", ".join(map(str, possible))} '
                'and a name other than "global", or add a stage to in_channels and to the '
                "backbone's out_indices"
            )
    return dict(levels)
