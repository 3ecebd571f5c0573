"""The contrastive loss with its gradient: time and memory, and how they grow."""

import re
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcrosscl.models import info_nce
from mmcrosscl.oracles.info_nce import plain_info_nce

from .harness import Variant, compare, table

TEMPERATURE = 0.2


def report(rounds: int, rows: int, negatives: int, channels: int, most: int) -> str:
    """Compare with the full matrix of logits and with torch's fused attention.

    Args:
        rounds (int): Times that each is measured.
        rows (int): Queries.
        negatives (int): Negatives of the first table.
        channels (int): Length of a vector.
        most (int): Negatives of the second table's last row.
    """

    def variants(count: int) -> list[Variant]:
        settings = dict(rows=rows, negatives=count, channels=channels)
        return [
            Variant('plain: all logits', loss, dict(settings, form='plain')),
            Variant(
                'torch’s fused attention, without accuracy', loss, dict(settings, form='fused')
            ),
            Variant('mmcrosscl', loss, dict(settings, form='mmcrosscl')),
        ]

    measured = compare(variants(negatives), rounds)
    inputs = 4 * channels * (negatives + 2 * rows) / 2**20
    first = table(
        f'Loss and gradient: {rows:,} queries, {negatives:,} negatives, {channels} channels, fp32',
        ['', 'ms', 'ratio', 'peak MB without the input'],
        [[m.name, 1000 * m.median, m.ratio(measured[0]), m.peak - inputs] for m in measured],
    )
    grown, count = [], negatives
    while count <= most:
        inputs = 4 * channels * (count + 2 * rows) / 2**20
        # logits, their joined copy, scaled copy, log-softmax and gradients
        needed = 4 * rows * count * 6 / 2**20
        plain, _, walk = variants(count)
        if needed < available():
            plain, walk = compare([plain, walk], min(rounds, 3))
            row = [1000 * plain.median, plain.peak - inputs]
        else:
            (walk,) = compare([walk], min(rounds, 3))
            row = [f'needs about {needed / 1024:.0f} GB', '']
        grown.append([count, *row, 1000 * walk.median, walk.peak - inputs])
        count = most if count < most < 4 * count else 4 * count
    second = table(
        'Growth with the number of negatives',
        ['negatives', 'plain ms', 'plain MB', 'mmcrosscl ms', 'mmcrosscl MB'],
        grown,
    )
    return first + '\n' + second


def available() -> float:
    """Return the MB that can be used without swapping."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / 2**20
    return int(re.search(r'MemAvailable:\s+(\d+)', Path('/proc/meminfo').read_text())[1]) / 1024


def loss(rows: int, negatives: int, channels: int, form: str) -> Callable[[], object]:
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.manual_seed(0)

    def unit(count: int) -> Tensor:
        vectors = torch.randn(count, channels, device=device)
        return F.normalize(vectors, dim=1, out=vectors)

    query, positive, others = unit(rows).requires_grad_(), unit(rows), unit(negatives)
    function = dict(plain=plain_info_nce, fused=fused_info_nce, mmcrosscl=info_nce)[form]

    def run():
        query.grad = None
        function(query, positive, others, TEMPERATURE)[0].backward()

    return run


def fused_info_nce(
    query: Tensor, positive: Tensor, negatives: Tensor, temperature: float
) -> tuple[Tensor]:
    """The loss through torch's fused attention, the negatives being its keys and values."""
    to_positive = (query * positive).sum(dim=1) / temperature
    log_sum = _Attention.apply(query, negatives, 1 / temperature)
    return ((torch.logaddexp(to_positive, log_sum) - to_positive).mean(),)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, negatives, scale):
        q, k = query[None, None], negatives[None, None]
        aten = torch.ops.aten
        if query.is_cuda:
            mean, log_sum, *_ = aten._scaled_dot_product_efficient_attention(
                q, k, k, None, True, scale=scale
            )
        else:
            mean, log_sum = aten._scaled_dot_product_flash_attention_for_cpu(q, k, k, scale=scale)
        ctx.save_for_backward(mean[0, 0])
        ctx.scale = scale
        return log_sum.flatten()[: len(query)]

    @staticmethod
    def backward(ctx, gradient):
        (mean,) = ctx.saved_tensors
        return ctx.scale * gradient[:, None] * mean, None, None
