"""The InfoNCE loss, as a function and as a module."""

import torch
from torch import Tensor, nn

from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS


def info_nce(
    query: Tensor, positive: Tensor, negatives: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Compute the mean InfoNCE loss of queries, each with one positive and shared negatives.

    Equation 1 of van den Oord et al., 2018 (https://arxiv.org/abs/1807.03748), with the shared
    negatives of He et al., 2020 (https://arxiv.org/abs/1911.05722):
    ``logsumexp([q·pos, q·neg₁, q·neg₂, …] / T) − q·pos / T``, averaged over the rows.

    The full N × K matrix of logits is never stored: the function needs O(N·C) memory in addition to
    the input. Terms with the same negatives are fastest in one call, in which they are stacked
    along leading dimensions of ``query`` and ``positive``.

    Args:
        query (Tensor): (..., N, C), unit length, with gradient.
        positive (Tensor): (..., N, C), unit length.
        negatives (Tensor): (K, C), unit length, no gradient.
        temperature (float): > 0.

    Returns:
        tuple[Tensor, Tensor]: The loss, (...), and the top-1 accuracy, (...). The accuracy is the
        percentage of queries that are more similar to their positive than to every negative. If N
        is 0, the loss and the accuracy are 0, and the loss still has a graph, because every rank
        must have gradients to reduce.

    Raises:
        InputError: If the shapes disagree, there are no negatives, the negatives carry gradient,
            or the temperature is not above 0.
    """
    _check(query, positive, negatives, temperature)
    to_positive = (query * positive).sum(dim=-1)
    log_sum, greatest = _LogSumExp.apply(query.flatten(0, -2), negatives, 1 / temperature)
    logit = to_positive / temperature
    rows = max(query.shape[-2], 1)
    loss = torch.logaddexp(logit, log_sum.view_as(logit)) - logit
    hits = logit.detach() > greatest.view_as(logit)
    return loss.sum(dim=-1) / rows, 100 * hits.sum(dim=-1, dtype=loss.dtype) / rows


class _LogSumExp(torch.autograd.Function):
    """Log-sum-exp and maximum of the logits of (N, C) queries against the negatives.

    The gradient of the log-sum-exp is the mean of the negatives, weighted by the softmax of the
    logits. Value and gradient together are attention with the negatives as keys and values. One
    pass over parts of the negatives computes the value and the gradient, as in Rabe and Staats,
    2021 (https://arxiv.org/abs/2112.05682).
    """

    @staticmethod
    def forward(ctx, query: Tensor, negatives: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        # logits and sums of half-precision inputs are computed in single precision
        query = scale * query.to(torch.promote_types(query.dtype, torch.float32))
        greatest = query.new_full((len(query),), -torch.inf)
        total = torch.zeros_like(greatest)
        mean = torch.zeros_like(query)
        length = min(_part_length(query), len(negatives))
        # all parts share one buffer, because an allocation per part would take longer than the sums
        memory = query.new_empty(len(query) * length)
        for part in negatives.split(length):
            part = part.to(query.dtype)
            weights = memory[: len(query) * len(part)].view(len(query), len(part))
            torch.mm(query, part.T, out=weights)
            before = greatest
            greatest = torch.maximum(before, weights.amax(dim=1))
            weights.sub_(greatest[:, None]).exp_()
            kept = (before - greatest).exp_()
            total.mul_(kept).add_(weights.sum(dim=1))
            mean.mul_(kept[:, None]).addmm_(weights, part)
        mean.div_(total[:, None])
        ctx.save_for_backward(mean)
        ctx.scale = scale
        ctx.mark_non_differentiable(greatest)
        return greatest + total.log_(), greatest

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (mean,) = ctx.saved_tensors
        return ctx.scale * gradient[:, None] * mean, None, None


def _part_length(query: Tensor) -> int:
    """Return the number of negatives per part, so that the logits of a part fit into the cache."""
    cache = 32 * 2**20 if query.is_cuda else 2**20
    return max(256, cache // (4 * max(len(query), 1)))


@MODELS.register_module()
class InfoNCELoss(nn.Module):
    """Module that computes :func:`info_nce` with a fixed temperature.

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
        """Compute losses and top-1 accuracies, (...) each; see :func:`info_nce`."""
        return info_nce(query, positive, negatives, self.temperature)

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}'


def _check(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> None:
    _check_temperature(temperature)
    if query.shape != positive.shape or query.ndim < 2 or negatives.shape[1:] != query.shape[-1:]:
        raise InputError(
            'expected query, positive and negatives of shapes (..., N, C), (..., N, C) and (K, C), '
            f'but got {tuple(query.shape)}, {tuple(positive.shape)} and {tuple(negatives.shape)}'
        )
    if len(negatives) == 0:
        raise InputError('there are no negatives; pass at least one')
    if negatives.requires_grad:
        raise InputError(
            'negatives require gradient, but their gradient is not computed; detach the negatives'
        )


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise InputError(f'temperature is {temperature}; it must be above 0, for example 0.2')
