"""The contrastive loss alone: queries, positives, negatives and a temperature in, a loss out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS


def info_nce(
    query: Tensor, positive: Tensor, negatives: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Mean InfoNCE loss of each query against one positive and shared negatives.

    Equation 1 of van den Oord et al., 2018 (https://arxiv.org/abs/1807.03748), with the shared
    negatives of He et al., 2020 (https://arxiv.org/abs/1911.05722):
    ``logsumexp([q·pos, q·neg₁, q·neg₂, …] / T) − q·pos / T``, averaged over the rows.

    Args:
        query (Tensor): (N, C), unit length, carries gradient.
        positive (Tensor): (N, C), unit length, no gradient.
        negatives (Tensor): (K, C), unit length, no gradient.
        temperature (float): > 0.

    Returns:
        tuple[Tensor, Tensor]: The loss, a scalar, and the top-1 accuracy, the percentage of rows
        whose positive is nearer than every negative. Both are 0 when N is 0, the loss with a graph
        all the same, so that every rank has gradients to reduce.

    Raises:
        InputError: If the shapes disagree or the temperature is not above 0.
    """
    _check_temperature(temperature)
    if query.shape != positive.shape or negatives.shape[1:] != query.shape[1:]:
        raise InputError(
            f'query {tuple(query.shape)}, positive {tuple(positive.shape)} and negatives '
            f'{tuple(negatives.shape)} must be (N, C), (N, C) and (K, C)'
        )
    to_positive = (query * positive).sum(dim=1, keepdim=True)
    to_negatives = query @ negatives.T
    logits = torch.cat((to_positive, to_negatives), dim=1) / temperature
    rows = max(len(query), 1)
    target = torch.zeros(len(query), dtype=torch.long, device=query.device)
    loss = F.cross_entropy(logits, target, reduction='sum') / rows
    with torch.no_grad():
        hits = (to_positive > to_negatives).all(dim=1)
        accuracy = 100 * hits.sum(dtype=loss.dtype) / rows
    return loss, accuracy


@MODELS.register_module()
class InfoNCELoss(nn.Module):
    """:func:`info_nce` at one temperature, for configs.

    Args:
        temperature (float): > 0. Defaults to 0.2.

    Raises:
        InputError: If the temperature is not above 0.
    """

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        _check_temperature(temperature)
        self.temperature = temperature

    def forward(self, query: Tensor, positive: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and top-1 accuracy of (N, C) queries; see :func:`info_nce`."""
        return info_nce(query, positive, negatives, self.temperature)

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}'


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise InputError(f'temperature is {temperature}; it must be above 0, for example 0.2')
