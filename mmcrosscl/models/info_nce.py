"""The InfoNCE loss: from queries, positives, negatives and a temperature to a loss."""

import torch
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

    No N × K matrix is kept: memory is O(N·C) in addition to the input. Terms with the same
    negatives are computed fastest in one call, as leading dimensions of query and positive.

    Args:
        query (Tensor): (..., N, C), unit length, carries gradient.
        positive (Tensor): (..., N, C), unit length.
        negatives (Tensor): (K, C), unit length, no gradient.
        temperature (float): > 0.

    Returns:
        tuple[Tensor, Tensor]: The loss, (...), and the top-1 accuracy, (...), the percentage of
        rows whose positive is nearer than every negative. Both are 0 when N is 0, the loss with a
        graph, so that every rank has gradients to reduce.

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

    The gradient of the log-sum-exp is the mean of the negatives, weighted by the softmax: together
    they are attention with the negatives as keys and values. One pass over the negatives in parts
    gives both, as the pass over keys of Rabe and Staats, 2021 (https://arxiv.org/abs/2112.05682).
    """

    @staticmethod
    def forward(ctx, query: Tensor, negatives: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        # sums of half-precision logits are kept in single precision
        query = scale * query.to(torch.promote_types(query.dtype, torch.float32))
        greatest = query.new_full((len(query),), -torch.inf)
        total = torch.zeros_like(greatest)
        mean = torch.zeros_like(query)
        length = min(_part_length(query), len(negatives))
        # allocating memory for every part would cost more than the sums
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
    """Return the number of negatives per part, whose logits should fit into the cache."""
    cache = 32 * 2**20 if query.is_cuda else 2**20
    return max(256, cache // (4 * max(len(query), 1)))


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
        """Compute losses and top-1 accuracies, (...) each; see :func:`info_nce`."""
        return info_nce(query, positive, negatives, self.temperature)

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}'


def _check(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> None:
    _check_temperature(temperature)
    if query.shape != positive.shape or query.ndim < 2 or negatives.shape[1:] != query.shape[-1:]:
        raise InputError(
            f'query {tuple(query.shape)}, positive {tuple(positive.shape)} and negatives '
            f'{tuple(negatives.shape)} must be (..., N, C), (..., N, C) and (K, C)'
        )
    if len(negatives) == 0:
        raise InputError('there are no negatives; give at least one')
    if negatives.requires_grad:
        raise InputError('negatives carry gradient, which is not computed; detach them')


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise InputError(f'temperature is {temperature}; it must be above 0, for example 0.2')
