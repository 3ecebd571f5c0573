"""Backbone stages in; the global vector and pyramid levels out."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmpretrain.models.necks import MoCoV2Neck
from torch import Tensor, nn

from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS


@MODELS.register_module()
class CrossCLNeck(BaseModule):
    """A feature pyramid beside MoCo v2's projection of the last stage.

    The pyramid is that of Lin et al., 2017 (https://arxiv.org/abs/1612.03144): 1×1 laterals,
    nearest 2× top-down sums, 3×3 output convolutions, here on the wanted levels alone.
    ``lateral_convs.i`` and ``fpn_convs.i`` carry the names of MMDetection's ``FPN`` over C2 to C5,
    i = 0 for C2, so a detector's neck loads them as they are.

    Args:
        in_channels (Sequence[int]): Channels of the backbone's stages, shallow to deep; the last
            is C5 (stride 32). Defaults to ResNet-50's C3, C4, C5.
        levels (Sequence[str]): Pyramid levels to put out. Defaults to P4 and P3.
        out_channels (int): Channels of every pyramid level. Defaults to 256.
        hid_channels (int): Width of the projection's hidden layer. Defaults to 2048.
        feat_dim (int): Length of the global vector. Defaults to 128.
        norm_cfg (dict, optional): Norm after every pyramid convolution, which then has no bias.
            Defaults to None: no norm.
        init_cfg (dict, optional): Defaults to Caffe2's Xavier for the convolutions, zero biases.

    Raises:
        InputError: If a level is not among the stages that the backbone gives.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (512, 1024, 2048),
        levels: Sequence[str] = ('p4', 'p3'),
        out_channels: int = 256,
        hid_channels: int = 2048,
        feat_dim: int = 128,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = dict(type='Caffe2Xavier', layer='Conv2d'),
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = tuple(in_channels)
        self.levels = tuple(levels)
        self.feat_dim = feat_dim
        if not 1 <= len(self.in_channels) <= 4 or not self.levels:
            raise InputError(
                f'in_channels {self.in_channels} and levels {self.levels}; give the widths of one '
                'to four stages, C5 last, and at least one level'
            )
        # the i of MMDetection's FPN over C2–C5, for each stage from shallow to deep
        places = [str(3 - depth) for depth in reversed(range(len(self.in_channels)))]
        known = {f'p{int(place) + 2}': place for place in places}
        for level in self.levels:
            if level not in known:
                raise InputError(
                    f'unknown level {level!r}: {len(places)} backbone stages give '
                    f'{", ".join(known)}; name one of these or extend in_channels and the '
                    "backbone's out_indices"
                )
        self._output_of = {known[level]: level for level in self.levels}
        # below the shallowest level nothing would be learnt
        used = [p for p in places if p >= min(self._output_of)]
        conv = dict(out_channels=out_channels, norm_cfg=norm_cfg, act_cfg=None)
        self.lateral_convs = nn.ModuleDict(
            {
                p: ConvModule(c, kernel_size=1, **conv)
                for p, c in zip(places, self.in_channels)
                if p in used
            }
        )
        self.fpn_convs = nn.ModuleDict(
            {p: ConvModule(out_channels, kernel_size=3, padding=1, **conv) for p in self._output_of}
        )
        self.projection = MoCoV2Neck(self.in_channels[-1], hid_channels, feat_dim)

    def forward(self, stages: Sequence[Tensor]) -> dict[str, Tensor]:
        """Build the pyramid and the global vector.

        Args:
            stages (Sequence[Tensor]): (N, Cᵢ, Hᵢ, Wᵢ) from shallow to deep, each half the size of
                the one before.

        Returns:
            dict[str, Tensor]: 'global', (N, feat_dim), and one (N, out_channels, H, W) map per
            level under its name; nothing is normalised yet.

        Raises:
            InputError: If the stages are not those that the neck was built for.
        """
        self._check(stages)
        features = {'global': self.projection(stages[-1:])[0]}
        top = None
        for place, stage in zip(reversed(self.lateral_convs.keys()), reversed(stages)):
            lateral = self.lateral_convs[place](stage)
            if top is not None:
                lateral = lateral + F.interpolate(top, scale_factor=2, mode='nearest')
            if place in self._output_of:
                features[self._output_of[place]] = self.fpn_convs[place](lateral)
            top = lateral
        return features

    def _check(self, stages: Sequence[Tensor]) -> None:
        shapes = [tuple(x.shape) for x in stages]
        if len(shapes) != len(self.in_channels) or any(
            len(shape) != 4 or shape[1] != channels
            for shape, channels in zip(shapes, self.in_channels)
        ):
            raise InputError(
                f'the backbone gives {shapes}, but the neck wants maps of {self.in_channels} '
                "channels: set the backbone's out_indices and the neck's in_channels to the same "
                'stages'
            )
        for shallow, deep in zip(shapes, shapes[1:]):
            if shallow[2:] != (2 * deep[2], 2 * deep[3]):
                raise InputError(
                    f'stages of {shallow[2:]} and {deep[2:]} cells: the strides do not divide the '
                    'view; use a view size that is a multiple of 32'
                )
