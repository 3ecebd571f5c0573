"""CrossCL, the algorithm."""

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor

from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS

from .communication import start_gather
from .key_encoder import KeyEncoder
from .queue import KeyQueue


@MODELS.register_module()
class CrossCL(BaseSelfSupervisor):
    """Cross-stage regional contrastive learning.

    Yan et al., "Self-supervised Cross-stage Regional Contrastive Learning for Object Detection",
    ICME 2023. MoCo v2 plus regional terms: the same region of an image must have like features in
    two views, within a pyramid level and across levels.

    Args:
        backbone (dict): Gives the stages that the neck takes, as a tuple of (N, C, H, W) maps.
        neck (dict): Makes the global vector and the pyramid levels; see :class:`CrossCLNeck`.
        head (dict): Contrasts them; see :class:`CrossCLHead`.
        queue_len (int): Past keys kept as negatives of the global term. Defaults to 65536.
        feat_dim (int): Length of the global vector. Defaults to 128.
        momentum (float): Share of the query encoder that the key encoder takes on each step.
            Defaults to 0.001.
        channels_last (bool): Keep maps and weights in channels-last memory, in which convolutions
            are faster, to the same numbers within rounding. Defaults to True.
        compile (bool | dict): Run both encoders through ``torch.compile``, with these settings if
            it is a dict. Defaults to False.
        data_preprocessor (dict, optional): Defaults to :class:`ViewPreprocessor` without
            normalisation.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        InputError: If the head contrasts a level that the neck does not give, or the queue's keys
            have another length than the neck's global vector.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        queue_len: int = 65536,
        feat_dim: int = 128,
        momentum: float = 0.001,
        channels_last: bool = True,
        compile: bool | dict = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if data_preprocessor is None or isinstance(data_preprocessor, dict):
            # named with its scope, so that it is found from MMDetection's too
            default = dict(type='mmcrosscl.ViewPreprocessor')
            data_preprocessor = {**default, **(data_preprocessor or {})}
        super().__init__(
            backbone,
            neck,
            head,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        if feat_dim != self.neck.feat_dim:
            raise InputError(
                f'feat_dim is {feat_dim} for the queue and {self.neck.feat_dim} for the neck; set '
                'both to the same length'
            )
        given = {'global', *self.neck.levels}
        if unknown := sorted(self.head.levels - given):
            raise InputError(
                f'the head contrasts unknown level {", ".join(unknown)}; the neck gives '
                f"{', '.join(sorted(given))}: add it to the neck's levels or take it from the terms"
            )
        self.key_encoder = KeyEncoder(self.backbone, self.neck, momentum)
        self.queue = KeyQueue(feat_dim, queue_len)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self._memory_format)
        if compile is not False:
            settings = {} if compile is True else compile
            for encoder in (self.backbone, self.key_encoder.backbone):
                encoder.compile(**settings)

    def loss(self, inputs: list[Tensor], data_samples: list[DataSample]) -> dict[str, Tensor]:
        """One training step's losses; also moves the key encoder and the queue on.

        Args:
            inputs (list[Tensor]): Query views and key views, each (N, 3, S, S), normalised.
            data_samples (list[DataSample]): N samples with the regions of both views; see
                :meth:`CrossCLHead.loss`.

        Returns:
            dict[str, Tensor]: A loss and an accuracy per term.

        Raises:
            InputError: If the views are not two batches of equal squares that the strides divide.
        """
        query_view, key_view = self._views(inputs)
        size = query_view.shape[-1]
        # the key first: what all ranks need of it travels while the query is encoded
        self.key_encoder.update(self.backbone, self.neck)
        key = self.key_encoder(key_view)
        negatives = self.head.negatives(key, size)
        new_keys = start_gather(F.normalize(key['global'], dim=1))
        query = self.neck(self.backbone(query_view))
        losses = self.head.loss(query, key, {'queue': self.queue, **negatives}, data_samples, size)
        self.queue.enqueue(new_keys())
        return losses

    def _views(self, inputs: list[Tensor]) -> list[Tensor]:
        shapes = [tuple(view.shape) for view in inputs]
        if len(shapes) != 2 or shapes[0] != shapes[1] or shapes[0][-1] != shapes[0][-2]:
            raise InputError(
                f'inputs are {shapes}; give the query views and the key views, two batches of '
                'squares of one size'
            )
        return [view.contiguous(memory_format=self._memory_format) for view in inputs]
