"""Classification by nearest neighbours: how good features are without training anything."""

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from mmengine.runner import Runner
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS


@MODELS.register_module()
class KNNClassifier(ImageClassifier):
    """Weighted vote of the nearest labelled images.

    Wu et al., 2018 (https://arxiv.org/abs/1805.01978), section 3.4: each of the k nearest by cosine
    similarity s votes for its class with the weight exp(s / temperature).

    Args:
        backbone (dict): Gives feature maps; a ``neck`` among the other arguments pools them.
        bank (dict): Data loader of the labelled images, without augmentation. They are encoded
            once, before the first prediction, each process its share.
        num_classes (int): How many classes there are.
        k (int): Neighbours that vote; all if there are fewer. Defaults to 200.
        temperature (float): Defaults to 0.07.
        **kwargs: Of MMPretrain's ``ImageClassifier``.

    Raises:
        InputError: If k or the temperature is not positive.
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
            raise InputError(f'k is {k} and temperature {temperature}; both must be positive')
        self.bank = bank
        self.num_classes = num_classes
        self.k = k
        self.temperature = temperature
        self.features: Tensor | None = None
        self.labels: Tensor | None = None

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[DataSample]) -> list[DataSample]:
        """Vote on (N, 3, H, W) images; sets score and label of their samples."""
        if self.features is None:
            self._encode_bank()
        query = F.normalize(self.extract_feat(inputs)[-1], dim=1)
        similarity, nearest = (query @ self.features.T).topk(min(self.k, len(self.features)))
        votes = query.new_zeros(len(query), self.num_classes)
        votes.scatter_add_(1, self.labels[nearest], (similarity / self.temperature).exp())
        for sample, vote in zip(data_samples, votes):
            sample.set_pred_score(vote / vote.sum()).set_pred_label(vote.argmax())
        return data_samples

    def _encode_bank(self) -> None:
        loader = Runner.build_dataloader(self.bank)
        device = next(self.parameters()).device
        labels = torch.as_tensor(loader.dataset.get_gt_labels(), device=device)
        features = None
        for batch in loader:
            data = self.data_preprocessor(batch, False)
            encoded = self.extract_feat(data['inputs'])[-1]
            if features is None:
                features = encoded.new_zeros(len(labels), encoded.shape[1])
            rows = [sample.sample_idx for sample in data['data_samples']]
            features[rows] = encoded
        # other processes' rows are zero here; a row that two have encoded has the same direction
        all_reduce(features)
        self.features, self.labels = F.normalize(features, dim=1), labels
