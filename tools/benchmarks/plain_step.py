"""A training step in the plainest form: what CrossCL's own is compared with."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcrosscl.models import CrossCL
from mmcrosscl.models.head import GLOBAL, pool_negatives


def plain_loss(model: CrossCL, inputs: list[Tensor], samples: list) -> Tensor:
    """Total loss of a :class:`CrossCL` on one process, computed as the reference computes it.

    Every window is pooled, paired or not, each term has its whole matrix of logits, and the key
    encoder follows tensor by tensor.

    Args:
        model (CrossCL): Built with ``channels_last=False``.
        inputs (list[Tensor]): Query views and key views, (N, 3, S, S) each.
        samples (list): N samples with the regions of both views.

    Returns:
        Tensor: The sum of the terms' losses; the key encoder and the queue have moved on.
    """
    query_view, key_view = inputs
    query = model.neck(model.backbone(query_view))
    follow(model)
    with torch.no_grad():
        key = model.key_encoder.neck(model.key_encoder.backbone(key_view))
    paired = np.concatenate([sample.paired for sample in samples])
    target = torch.from_numpy(np.where(paired, 0, -1)).to(query_view.device)
    total = 0.0
    for term in model.head.terms:
        q = vectors(model, query, term.query, samples, 'query_regions')
        k = vectors(model, key, term.key, samples, 'key_regions')
        if term.query == GLOBAL:
            negatives = model.queue()
            wanted = target.new_zeros(len(q))
        else:
            negatives = pool_negatives(key[term.key], query_view.shape[-1])
            wanted = target
        logits = torch.cat(((q * k).sum(dim=1, keepdim=True), q @ negatives.T), dim=1)
        logits = logits / model.head.loss_module.temperature
        total = total + term.weight * F.cross_entropy(logits, wanted, ignore_index=-1)
    model.queue.enqueue(F.normalize(key[GLOBAL], dim=1))
    return total


def vectors(
    model: CrossCL, features: dict[str, Tensor], level: str, samples: list, regions: str
) -> Tensor:
    """The global vectors, or those of all regions; a region without a pair has an empty box."""
    if level == GLOBAL:
        return F.normalize(features[GLOBAL], dim=1)
    rois = []
    for index, sample in enumerate(samples):
        boxes = np.where(sample.paired[:, None], sample.get(regions), 0)
        rois.append(np.pad(boxes, ((0, 0), (1, 0)), constant_values=index))
    rois = torch.from_numpy(np.concatenate(rois)).to(features[level])
    return F.normalize(model.head.region_pooling(features[level], level, rois), dim=1)


@torch.no_grad()
def follow(model: CrossCL, momentum: float = 0.001) -> None:
    """Move the key encoder tensor by tensor."""
    encoder = model.key_encoder
    for ours, theirs in ((encoder.backbone, model.backbone), (encoder.neck, model.neck)):
        for follower, leader in zip(ours.parameters(), theirs.parameters()):
            follower.copy_(follower * (1 - momentum) + leader * momentum)
