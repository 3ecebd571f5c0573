"""The neck of a detector, as a neck of CrossCL."""

from collections.abc import Mapping, Sequence

from mmengine.model import BaseModule
from mmpretrain.models.necks import MoCoV2Neck
from torch import Tensor, nn

from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS


@MODELS.register_module()
class DetectorNeck(BaseModule):
    """A neck of MMDetection, and MoCo v2's projection of the backbone's last stage.

    The neck is built from its config in the detector and is not changed. In the state dict, its
    names have the prefix ``detector.``, so that ``neck.detector.X`` of CrossCL is ``neck.X`` of the
    detector.

    Attributes:
        levels (tuple[str, ...]): Names of the levels that are contrasted.
        strides (dict[str, int]): Stride of each level in pixels of the view.
        stage_strides (tuple[int, ...]): Strides of the backbone stages. The view size must be a
            multiple of them.
        feat_dim (int): Length of the global vector.

    Args:
        detector (dict | Sequence[dict]): Config of the detector's neck, or of several necks in a
            row.
        in_channels (int): Number of channels of the backbone's last stage.
        map_strides (Sequence[int]): Stride of each map that the neck returns, in pixels of the
            view.
        levels (Mapping[str, int]): Name and stride of each level to contrast. The strides must be
            among ``map_strides``.
        level_channels (Mapping[str, int], optional): Number of channels of each level. If set, a
            1×1 convolution maps each level to ``embed_channels`` channels, so that levels of
            different widths can be contrasted. Only pre-training uses these convolutions. Defaults
            to None (all levels have the same width).
        embed_channels (int): Output channels of the 1×1 convolutions. Defaults to 256.
        stage_strides (Sequence[int]): Strides of the backbone stages. Defaults to () (only the
            strides of the levels restrict the view size).
        hid_channels (int): Width of the projection's hidden layer. Defaults to 2048.
        feat_dim (int): Length of the global vector. Defaults to 128.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        InputError: If a level's stride is not among ``map_strides``, or ``level_channels`` has
            other levels than ``levels``.
    """

    def __init__(
        self,
        detector: dict | Sequence[dict],
        in_channels: int,
        map_strides: Sequence[int],
        levels: Mapping[str, int],
        level_channels: Mapping[str, int] | None = None,
        embed_channels: int = 256,
        stage_strides: Sequence[int] = (),
        hid_channels: int = 2048,
        feat_dim: int = 128,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.map_strides = tuple(map_strides)
        self.stage_strides = tuple(stage_strides)
        self.strides = dict(levels)
        self.levels = tuple(self.strides)
        self.feat_dim = feat_dim
        for level, stride in self.strides.items():
            if stride not in self.map_strides or level == 'global':
                raise InputError(
                    f'level {level!r} with stride {stride} is invalid for a neck with strides '
                    f'{", ".join(map(str, self.map_strides))}; set one of these strides and a name '
                    'other than "global"'
                )
        if level_channels is not None and set(level_channels) != set(self.levels):
            raise InputError(
                f'level_channels has the levels {", ".join(level_channels)}, but levels has '
                f'{", ".join(self.levels)}; set the number of channels of each level'
            )
        self.detector = MODELS.build(detector)
        # a list, because a ModuleDict rejects some level names, such as 'keys'
        channels = level_channels or {}
        self.level_convs = nn.ModuleList(
            nn.Conv2d(channels[level], embed_channels, 1)
            for level in (self.levels if channels else ())
        )
        self.projection = MoCoV2Neck(in_channels, hid_channels, feat_dim)

    def forward(self, stages: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the pyramid levels and the global vector.

        Args:
            stages (Sequence[Tensor]): (N, Cᵢ, Hᵢ, Wᵢ) maps, as the detector's backbone returns
                them.

        Returns:
            dict[str, Tensor]: The global vectors 'global', (N, feat_dim), and one (N, C, H, W) map
            per level, with the level's name as the key. The features are not normalized.

        Raises:
            InputError: If the neck does not return one map per stride.
        """
        maps = self.detector(stages)
        maps = (maps,) if isinstance(maps, Tensor) else tuple(maps)
        if len(maps) != len(self.map_strides):
            raise InputError(
                f'the neck returned {len(maps)} maps, but map_strides has '
                f'{len(self.map_strides)} strides; set the stride of each map'
            )
        features = {'global': self.projection(stages[-1:])[0]}
        for index, (level, stride) in enumerate(self.strides.items()):
            x = maps[self.map_strides.index(stride)]
            features[level] = self.level_convs[index](x) if self.level_convs else x
        return features
