"""The InfoNCE loss, computed from the full matrix of logits."""

import torch
import torch.nn.functional as F
from torch import Tensor


def plain_info_nce(
    query: Tensor, positive: Tensor, negatives: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Compute the mean InfoNCE loss and top-1 accuracy; see :func:`mmcrosscl.models.info_nce`.

    Args:
        query (Tensor): (..., N, C), unit length, with gradient.
        positive (Tensor): (..., N, C), unit length.
        negatives (Tensor): (K, C), unit length.
        temperature (float): > 0.

    Returns:
        tuple[Tensor, Tensor]: The loss, (...), and the accuracy in percent, (...).
    """
    to_positive = (query * positive).sum(dim=-1, keepdim=True)
    to_negatives = query @ negatives.T
    logits = torch.cat((to_positive, to_negatives), dim=-1) / temperature
    rows = max(query.shape[-2], 1)
    losses = -F.log_softmax(logits, dim=-1)[..., 0]
    hits = (to_positive > to_negatives).all(dim=-1)
    return losses.sum(dim=-1) / rows, 100 * hits.sum(dim=-1, dtype=losses.dtype) / rows
