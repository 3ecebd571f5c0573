"""CrossCL, the algorithm."""

import math

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor, nn

from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS
from mmcrosscl.structures import ViewPairSample

from .communication import start_gather
from .key_encoder import KeyEncoder
from .queue import KeyQueue


@MODELS.register_module()
class CrossCL(BaseSelfSupervisor):
    """Cross-stage regional contrastive learning.

    Yan et al., "Self-supervised Cross-stage Regional Contrastive Learning for Object Detection",
    ICME 2023. MoCo v2 plus regional terms: the same region of an image must have similar features
    in two views, within a pyramid level and across levels.

    Args:
        backbone (dict): Returns the neck's stages as a tuple of (N, C, H, W) maps.
        neck (dict): Returns the global vector and the pyramid levels, and publishes ``levels``,
            ``strides`` and ``feat_dim``; see :class:`CrossCLNeck`.
        head (dict): Contrasts them, with the neck's strides; see :class:`CrossCLHead`.
        queue_len (int): Past keys kept as negatives of the global term. Defaults to 65536.
        momentum (float): Weight of the query encoder in each update of the key encoder.
            Defaults to 0.001.
        channels_last (bool): Keep maps and weights in channels-last memory, in which convolutions
            are faster, with the same results within rounding. Defaults to True.
        compile (bool | dict): Run both encoders through ``torch.compile``, with these settings if
            it is a dict. Defaults to False.
        data_preprocessor (dict, optional): Defaults to :class:`ViewPreprocessor` without
            normalization.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        InputError: If the head contrasts a level that the neck does not return.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        queue_len: int = 65536,
        momentum: float = 0.001,
        channels_last: bool = True,
        compile: bool | dict = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if data_preprocessor is None or isinstance(data_preprocessor, dict):
            # with its scope, so that it is found from MMDetection's registry too
            default = dict(type='mmcrosscl.ViewPreprocessor')
            data_preprocessor = {**default, **(data_preprocessor or {})}
        super().__init__(backbone, neck, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if not isinstance(head, nn.Module):
            head = MODELS.build(dict(head, strides=self.neck.strides))
        self.head = head
        if not head.strides.items() <= self.neck.strides.items():
            raise InputError(
                f'the head has strides {head.strides} and the neck {self.neck.strides}; give the '
                "head the neck's"
            )
        # a neck that does not publish the strides of its stages accepts any
        stage_strides = getattr(self.neck, 'stage_strides', ())
        self._size_divisor = math.lcm(*self.neck.strides.values(), *stage_strides)
        self.key_encoder = KeyEncoder(self.backbone, self.neck, momentum)
        self.queue = KeyQueue(self.neck.feat_dim, queue_len)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self._memory_format)
        if compile is not False:
            settings = {} if compile is True else compile
            for encoder in (self.backbone, self.key_encoder.backbone):
                encoder.compile(**settings)

    def loss(self, inputs: list[Tensor], data_samples: list[ViewPairSample]) -> dict[str, Tensor]:
        """Compute one training step's losses, and update the key encoder and the queue.

        Args:
            inputs (list[Tensor]): Query views and key views, each (N, 3, S, S), normalized.
            data_samples (list[ViewPairSample]): N samples with the regions of both views.

        Returns:
            dict[str, Tensor]: A loss and an accuracy per term.

        Raises:
            InputError: If the views are not two batches of equal squares, or a stride does not
                divide S.
        """
        query_view, key_view = self._views(inputs)
        size = query_view.shape[-1]
        # the key first: what all ranks need of it is gathered while the query is encoded
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
        """Encode both views of each image with the query encoder, for metrics and pictures.

        The key encoder and the queue are not used. In eval mode nothing of the model changes.

        Args:
            inputs (list[Tensor]): Query views and key views, each (N, 3, S, S), normalized.
            data_samples (list[ViewPairSample], optional): N samples. Defaults to None: new ones.

        Returns:
            list[ViewPairSample]: The N samples, with ``query_features`` and ``key_features`` set.
            Each is the neck's output for one image and view, without gradient and not normalized:
            'global', (feat_dim,), and a (C, S / stride, S / stride) map per pyramid level.

        Raises:
            InputError: If the views are not two batches of equal squares, or a stride does not
                divide S.
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
                normalized; in mode 'tensor' one batch of images, (N, 3, H, W).
            data_samples (list[ViewPairSample], optional): N samples. Defaults to None.
            mode (str): 'loss', 'predict' or 'tensor'. Defaults to 'tensor'.

        Returns:
            dict[str, Tensor] | list[ViewPairSample] | tuple[Tensor, ...]: The losses, the samples
            with features, or the backbone's stages.
        """
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)

    def _views(self, inputs: list[Tensor]) -> list[Tensor]:
        shapes = [tuple(view.shape) for view in inputs]
        if len(shapes) != 2 or shapes[0] != shapes[1] or shapes[0][-1] != shapes[0][-2]:
            raise InputError(
                f'inputs are {shapes}; give the query views and the key views, two batches of '
                'squares of one size'
            )
        if (size := shapes[0][-1]) % self._size_divisor:
            raise InputError(
                f'view size {size} is not a multiple of the strides of all levels; use a multiple '
                f'of {self._size_divisor}'
            )
        return [view.contiguous(memory_format=self._memory_format) for view in inputs]
