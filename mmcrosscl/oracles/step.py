"""A training step, computed in the same way as in the authors' implementation."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcrosscl.models import CrossCL
from mmcrosscl.models.head import GLOBAL, pool_negatives
from mmcrosscl.structures import ViewPairSample


def plain_loss(model: CrossCL, inputs: list[Tensor], samples: list[ViewPairSample]) -> Tensor:
    """Compute the total loss of a :class:`CrossCL` on one process.

    The function pools every window, whether paired or not, computes the full matrix of logits of
    each term, and updates the key encoder tensor by tensor. It also updates the queue.

    Args:
        model (CrossCL): Built with ``channels_last=False``.
        inputs (list[Tensor]): Query views and key views, each (N, 3, S, S).
        samples (list[ViewPairSample]): N samples with the regions of both views.

    Returns:
        Tensor: The sum of the terms' losses, a scalar.
    """
    query_view, key_view = inputs
    query = model.neck(model.backbone(query_view))
    update_key_encoder(model)
    with torch.no_grad():
        key = model.key_encoder.neck(model.key_encoder.backbone(key_view))
    paired = np.concatenate([sample.paired for sample in samples])
    target = torch.from_numpy(np.where(paired, 0, -1)).to(query_view.device)
    total = query_view.new_zeros(())
    for term in model.head.terms:
        q = all_vectors(model, query, term.query, samples, 'query')
        k = all_vectors(model, key, term.key, samples, 'key')
        if term.query == GLOBAL:
            negatives = model.queue()
            labels = target.new_zeros(len(q))
        else:
            negatives = pool_negatives(key[term.key], query_view.shape[-1])
            labels = target
        logits = torch.cat(((q * k).sum(dim=1, keepdim=True), q @ negatives.T), dim=1)
        logits = logits / model.head.loss_module.temperature
        total = total + term.weight * F.cross_entropy(logits, labels, ignore_index=-1)
    model.queue.enqueue(F.normalize(key[GLOBAL], dim=1))
    return total


def all_vectors(
    model: CrossCL,
    features: dict[str, Tensor],
    level: str,
    samples: list[ViewPairSample],
    view: str,
) -> Tensor:
    """Return the vectors of all views (level 'global') or of all regions (a pyramid level).

    Unpaired regions are pooled from empty boxes.

    Args:
        model (CrossCL): The model.
        features (dict[str, Tensor]): The neck's output for N views.
        level (str): 'global' or a pyramid level.
        samples (list[ViewPairSample]): N samples with the regions of both views.
        view (str): 'query' or 'key'.

    Returns:
        Tensor: (N, C) for 'global' or (ΣR, C) for a pyramid level, unit length.
    """
    if level == GLOBAL:
        return F.normalize(features[GLOBAL], dim=1)
    padded = []
    for index, sample in enumerate(samples):
        boxes = np.where(sample.paired[:, None], sample.regions(view), 0)
        padded.append(np.pad(boxes, ((0, 0), (1, 0)), constant_values=index))
    rois = torch.from_numpy(np.concatenate(padded)).to(features[level])
    return model.head.region_vectors(features[level], rois, level)


@torch.no_grad()
def update_key_encoder(model: CrossCL, momentum: float = 0.001) -> None:
    """Update the key encoder tensor by tensor."""
    encoder = model.key_encoder
    for copy, original in ((encoder.backbone, model.backbone), (encoder.neck, model.neck)):
        for key, query in zip(copy.parameters(), original.parameters()):
            key.copy_(key * (1 - momentum) + query * momentum)
