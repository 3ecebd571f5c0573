"""Weighted k-nearest-neighbor classification on frozen features."""

from typing import cast

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from mmengine.runner import Runner
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from mmcrosscl.errors import InputError
from mmcrosscl.progress import track
from mmcrosscl.registry import MODELS


@MODELS.register_module()
class KNNClassifier(ImageClassifier):
    """Weighted k-nearest-neighbor classifier.

    Section 3.4 of Wu et al., 2018 (https://arxiv.org/abs/1805.01978): each of the k nearest labeled
    images votes for its class with weight exp(s / temperature), where s is the cosine similarity.

    Args:
        backbone (dict): Config of the backbone. Pass a ``neck`` that pools its feature maps.
        bank (dict): Config of the data loader of the labeled images, without augmentation. The
            images are encoded once, before the first prediction. Each process encodes a part of
            them.
        num_classes (int): Number of classes.
        k (int): Number of neighbors that vote. All labeled images vote if there are fewer than k.
            Defaults to 200.
        temperature (float): Temperature of the votes, > 0. Defaults to 0.07.
        **kwargs: Other arguments of MMPretrain's ``ImageClassifier``.

    Raises:
        InputError: If k < 1 or temperature <= 0.
    """

    def __init__(
        self,
        backbone: dict,
        bank: dict,
        num_classes: int,
        k: int = 200,
        temperature: float = 0.07,
        **kwargs,
    ) -> None:
        super().__init__(backbone, **kwargs)
        if k < 1 or temperature <= 0:
            raise InputError(
                f'expected k >= 1 and temperature > 0, but got k={k} and temperature={temperature}'
            )
        self.bank = bank
        self.num_classes = num_classes
        self.k = k
        self.temperature = temperature
        self.features: Tensor | None = None
        self.labels: Tensor | None = None

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[DataSample]) -> list[DataSample]:
        """Classify images.

        Args:
            inputs (Tensor): (N, 3, H, W), normalized.
            data_samples (list[DataSample]): N samples, modified in place.

        Returns:
            list[DataSample]: The same samples. ``pred_score`` is (num_classes,) and sums to 1;
            ``pred_label`` is the class with the highest score.

        Raises:
            InputError: If ``bank`` has no images, or its images do not fill a batch.
        """
        if self.features is None or self.labels is None:
            self.features, self.labels = self._encode_bank()
        query = F.normalize(self.extract_feat(inputs)[-1], dim=1)
        similarity, nearest = (query @ self.features.T).topk(min(self.k, len(self.features)))
        votes = query.new_zeros(len(query), self.num_classes)
        votes.scatter_add_(1, self.labels[nearest], (similarity / self.temperature).exp())
        for sample, vote in zip(data_samples, votes):
            sample.set_pred_score(vote / vote.sum()).set_pred_label(vote.argmax())
        return data_samples

    def _encode_bank(self) -> tuple[Tensor, Tensor]:
        try:
            loader = Runner.build_dataloader(self.bank)
        # of mmpretrain's and MMEngine's datasets without images
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f'model.bank has no images or cannot be built ({error}); correct model.bank.dataset'
            ) from error
        if len(loader) == 0:
            raise InputError(
                f'the {len(loader.dataset)} images of model.bank do not fill a batch of '
                f'{loader.batch_size}; add images or set model.bank.drop_last=False'
            )
        device = next(self.parameters()).device
        labels = torch.as_tensor(loader.dataset.get_gt_labels(), device=device)
        features = None
        for batch in track(loader, 'Encoding the labeled images', unit='batches'):
            data = self.data_preprocessor(batch, False)
            encoded = self.extract_feat(data['inputs'])[-1]
            if features is None:
                features = encoded.new_zeros(len(labels), encoded.shape[1])
            rows = [sample.sample_idx for sample in data['data_samples']]
            features[rows] = encoded
        # Each process has zeros in the rows that other processes encode, so the sum joins all rows.
        # The sampler may repeat an image in two processes; the normalization cancels the factor 2.
        all_reduce(features)
        # the loader has at least one batch
        return F.normalize(cast(Tensor, features), dim=1), labels
