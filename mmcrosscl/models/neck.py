"""Backbone stages in; the global vector and pyramid levels out."""

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
    """A feature pyramid, and MoCo v2's projection of the last stage.

    The pyramid is that of Lin et al., 2017 (https://arxiv.org/abs/1612.03144): 1×1 laterals,
    nearest 2× top-down sums, and 3×3 output convolutions on the requested levels only. A level
    with a larger stride than the last stage is subsampled from the level before, as in
    MMDetection's ``FPN`` without extra convolutions. ``lateral_convs.i`` and ``fpn_convs.i``,
    i = log2(stride / 4), are the names of MMDetection's ``FPN`` over C2 to C5, so a detector's neck
    loads them without conversion.

    Attributes:
        levels (tuple[str, ...]): Names of the pyramid levels.
        strides (dict[str, int]): Stride of each level in pixels of the view.
        feat_dim (int): Length of the global vector.

    Args:
        in_channels (Sequence[int]): Channels of the backbone's stages, shallow to deep. Defaults
            to ResNet-50's C3, C4, C5.
        levels (Mapping[str, int]): Pyramid levels to return: any name, and the stride in pixels,
            from that of the shallowest stage to 128. A config that inherits another one adds to
            its levels, and replaces them with ``_delete_=True``. Defaults to P4 and P3.
        out_channels (int): Channels of every pyramid level. Defaults to 256.
        hid_channels (int): Width of the projection's hidden layer. Defaults to 2048.
        feat_dim (int): Length of the global vector. Defaults to 128.
        norm_cfg (dict, optional): Norm after every pyramid convolution, which then has no bias.
            Defaults to None: no norm.
        init_cfg (dict, optional): Defaults to Caffe2's Xavier for the convolutions, zero biases.
        stage_strides (Sequence[int], optional): Strides of the stages, each twice the one before.
            Defaults to 32 for the last one.

    Raises:
        InputError: If stages, strides and levels do not fit each other.
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
        # a level deeper than the stages is subsampled from the output of the last one
        outputs = dict.fromkeys(min(stride, deepest) for stride in self.strides.values())
        conv = dict(out_channels=out_channels, norm_cfg=norm_cfg, act_cfg=None)
        self.lateral_convs = nn.ModuleDict(
            {
                _index(stride): ConvModule(channels, kernel_size=1, **conv)
                for stride, channels in zip(self.stage_strides, self.in_channels)
                # a lateral below the shallowest level would get no gradient
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
        """Build the pyramid and the global vector.

        Args:
            stages (Sequence[Tensor]): (N, Cᵢ, Hᵢ, Wᵢ) from shallow to deep, each half the size of
                the one before.

        Returns:
            dict[str, Tensor]: 'global', (N, feat_dim), and one (N, out_channels, H, W) map per
            level under its name. They are not normalized.

        Raises:
            InputError: If the stages are not those that the neck was built for.
        """
        self._check(stages)
        features = {'global': self.projection(stages[-1:])[0]}
        maps, lateral = {}, None
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
        if len(shapes) != len(self.in_channels) or any(
            len(shape) != 4 or shape[1] != channels
            for shape, channels in zip(shapes, self.in_channels)
        ):
            raise InputError(
                f'the backbone gives {shapes}, but the neck expects maps of {self.in_channels} '
                "channels; set the backbone's out_indices and the neck's in_channels to the same "
                'stages'
            )
        for shallow, deep in zip(shapes, shapes[1:]):
            if shallow[2:] != (2 * deep[2], 2 * deep[3]):
                multiple = math.lcm(*self.stage_strides, *self.strides.values())
                raise InputError(
                    f'stages of {shallow[2:]} and {deep[2:]} cells: the strides do not divide the '
                    f'view size; use a multiple of {multiple}'
                )


def _index(stride: int) -> str:
    """Return the i of MMDetection's ``FPN`` over C2 to C5."""
    return str(STRIDES.index(stride))


def _stage_strides(stages: int, strides: Sequence[int] | None) -> tuple[int, ...]:
    if strides is None and 1 <= stages <= 4:
        strides = STRIDES[4 - stages : 4]
    strides = tuple(strides or ())
    # STRIDES holds powers of two in order, so a part of it has stages of half the size each
    first = STRIDES.index(strides[0]) if strides and strides[0] in STRIDES else 0
    if len(strides) != stages or not strides or strides != STRIDES[first : first + stages]:
        raise InputError(
            f'stage_strides is {strides} for {stages} stages; give in_channels of one to four '
            'stages that end at stride 32, or a stride for each stage, from 4 to 128 and each '
            'twice the one before'
        )
    return strides


def _level_strides(levels: Mapping[str, int], stages: tuple[int, ...]) -> dict[str, int]:
    if not isinstance(levels, Mapping) or not levels:
        raise InputError(
            f'levels is {levels}; give at least one, as name and stride, such as dict(p4=16, p3=8)'
        )
    possible = [stride for stride in STRIDES if stride >= stages[0]]
    for level, stride in levels.items():
        if stride not in possible or level == 'global':
            raise InputError(
                f'level {level!r} with stride {stride} is not possible: stages of strides '
                f'{", ".join(map(str, stages))} give {", ".join(map(str, possible))}, and "global" '
                "is not a level; change it, or extend in_channels and the backbone's out_indices"
            )
    return dict(levels)
