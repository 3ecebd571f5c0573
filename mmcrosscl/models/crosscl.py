"""The CrossCL algorithm."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor

from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS
from mmcrosscl.structures import ViewPairSample

from .communication import start_gather
from .head import CrossCLHead
from .key_encoder import KeyEncoder


@MODELS.register_module()
class CrossCL(BaseSelfSupervisor):
    """Cross-stage regional contrastive learning.

    Yan et al., "Self-supervised Cross-stage Regional Contrastive Learning for Object Detection",
    ICME 2023. CrossCL adds regional terms to MoCo v2: the same region of an image must have similar
    features in two views, both within a pyramid level and across pyramid levels.

    Args:
        backbone (dict): Config of the backbone, which returns the stages for the neck as a tuple of
            (N, C, H, W) maps.
        neck (dict): Config of the neck, which returns the global vector and the pyramid levels, and
            has the attributes ``levels``, ``strides`` and ``feat_dim``; see :class:`CrossCLNeck`.
        head (dict): Config of the head, which contrasts the neck's outputs. ``strides`` is set to
            the neck's strides; see :class:`CrossCLHead`.
        queue (dict): Config of the queue of past keys, the negatives of the global term. ``dim`` is
            set to the neck's ``feat_dim``; see :class:`KeyQueue`. Defaults to 65,536 keys.
        momentum (float): Weight of the query encoder in each update of the key encoder.
            Defaults to 0.001.
        channels_last (bool): Keep feature maps and weights in channels-last memory, which makes
            convolutions faster. The results are the same within rounding. Defaults to True.
        compile (bool | dict): Compile the backbones of the query encoder and the key encoder with
            ``torch.compile``. A dict sets the arguments of ``torch.compile``. Defaults to False.
        data_preprocessor (dict, optional): Config of the data preprocessor. Defaults to
            :class:`ViewPreprocessor` without normalization.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        InputError: If the head's levels or strides do not match the neck.
    """

    head: CrossCLHead

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict | CrossCLHead,
        queue: dict = dict(type='mmcrosscl.KeyQueue', length=65536),
        momentum: float = 0.001,
        channels_last: bool = True,
        compile: bool | dict = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if data_preprocessor is None or isinstance(data_preprocessor, dict):
            # the scope lets MMDetection's registry find the class
            default = dict(type='mmcrosscl.ViewPreprocessor')
            data_preprocessor = {**default, **(data_preprocessor or {})}
        super().__init__(backbone, neck, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if isinstance(head, dict):
            self.head = MODELS.build(dict(head, strides=self.neck.strides))
        else:
            self.head = head
        if not self.head.strides.items() <= self.neck.strides.items():
            raise InputError(
                f'the head has strides {self.head.strides}, but the neck has '
                f"{self.neck.strides}; set the head's strides to the neck's"
            )
        # without `stage_strides`, only the strides of the neck's levels restrict the view size
        stage_strides = getattr(self.neck, 'stage_strides', ())
        self._size_divisor = math.lcm(*self.neck.strides.values(), *stage_strides)
        self.key_encoder = KeyEncoder(self.backbone, self.neck, momentum)
        self.queue = MODELS.build(
            {'type': 'mmcrosscl.KeyQueue', **queue, 'dim': self.neck.feat_dim}
        )
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self._memory_format)
        if compile is not False:
            settings = {} if compile is True else compile
            for encoder in (self.backbone, self.key_encoder.backbone):
                encoder.compile(**settings)

    def loss(self, inputs: list[Tensor], data_samples: list[ViewPairSample]) -> dict[str, Tensor]:
        """Compute the losses of a training step, and update the key encoder and the queue.

        Args:
            inputs (list[Tensor]): Query views and key views, each (N, 3, S, S), normalized.
            data_samples (list[ViewPairSample]): N samples with the regions of both views.

        Returns:
            dict[str, Tensor]: A loss and an accuracy per term.

        Raises:
            InputError: If the inputs are not two batches of square views of the same size, or S is
                not a multiple of every stride.
        """
        query_view, key_view = self._views(inputs)
        size = query_view.shape[-1]
        # keys are encoded first, so that gathering them overlaps with encoding the queries
        self.key_encoder.update(self.backbone, self.neck)
        key = self.key_encoder(key_view)
        negatives = self.head.negatives(key, size)
        new_keys = start_gather(F.normalize(key['global'], dim=1))
        query = self.neck(self.backbone(query_view))
        losses = self.head.loss(query, key, {'queue': self.queue, **negatives}, data_samples, size)
        self.queue.enqueue(new_keys())
        return losses

    @torch.no_grad()
    def predict(
        self, inputs: list[Tensor], data_samples: list[ViewPairSample] | None = None
    ) -> list[ViewPairSample]:
        """Encode both views of each image with the query encoder, for metrics and figures.

        The key encoder and the queue are not used. In eval mode, the model state is unchanged.

        Args:
            inputs (list[Tensor]): Query views and key views, each (N, 3, S, S), normalized.
            data_samples (list[ViewPairSample], optional): N samples. Defaults to None, which
                creates new samples.

        Returns:
            list[ViewPairSample]: The N samples, with ``query_features`` and ``key_features`` set.
            Each of the two fields is the neck's output for one view: the global vector 'global',
            (feat_dim,), and a (C, S / stride, S / stride) map per pyramid level. The features have
            no gradient and are not normalized.

        Raises:
            InputError: If the inputs are not two batches of square views of the same size, or S is
                not a multiple of every stride.
        """
        query, key = (self.neck(self.backbone(view)) for view in self._views(inputs))
        if data_samples is None:
            data_samples = [ViewPairSample() for _ in inputs[0]]
        for index, sample in enumerate(data_samples):
            sample.query_features = {name: x[index] for name, x in query.items()}
            sample.key_features = {name: x[index] for name, x in key.items()}
        return data_samples

    def forward(
        self,
        inputs: Tensor | list[Tensor],
        data_samples: list[ViewPairSample] | None = None,
        mode: str = 'tensor',
    ) -> tuple[Tensor, ...] | dict[str, Tensor] | list[ViewPairSample]:
        """Run :meth:`loss`, :meth:`predict` or, in mode 'tensor', ``extract_feat``.

        Args:
            inputs (list[Tensor] | Tensor): Query views and key views, each (N, 3, S, S),
                normalized. In mode 'tensor', one batch of images, (N, 3, H, W).
            data_samples (list[ViewPairSample], optional): N samples. Defaults to None.
            mode (str): 'loss', 'predict' or 'tensor'. Defaults to 'tensor'.

        Returns:
            dict[str, Tensor] | list[ViewPairSample] | tuple[Tensor, ...]: The losses in mode
            'loss', the samples with features in mode 'predict', or the backbone's stages in mode
            'tensor'.
        """
        if mode == 'predict':
            return self.predict(cast(list[Tensor], inputs), data_samples)
        return super().forward(inputs, data_samples, mode)

    def _views(self, inputs: list[Tensor]) -> list[Tensor]:
        shapes = [tuple(view.shape) for view in inputs]
        if len(shapes) != 2 or shapes[0] != shapes[1] or shapes[0][-1] != shapes[0][-2]:
            raise InputError(
                f'expected two batches of square views of the same size, but got shapes {shapes}; '
                'pass the query views and the key views'
            )
        if (size := shapes[0][-1]) % self._size_divisor:
            raise InputError(
                f'view size {size} is not a multiple of every stride; use a multiple of '
                f'{self._size_divisor}'
            )
        return [view.contiguous(memory_format=self._memory_format) for view in inputs]
