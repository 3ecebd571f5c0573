"""Benchmark of the contrastive loss and its gradient: time and memory."""

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
    """Compare mmcrosscl's loss with the full matrix of logits and with torch's fused attention.

    Args:
        rounds (int): Number of measured runs per variant.
        rows (int): Number of queries.
        negatives (int): Number of negatives in the first table.
        channels (int): Length of a feature vector.
        most (int): Number of negatives in the last row of the second table.
    """

    def variants(count: int) -> list[Variant]:
        settings = dict(rows=rows, negatives=count, channels=channels)
        forms = {
            'plain: all logits': 'plain',
            'torch’s fused attention (top-1 accuracy not computed)': 'fused',
            'mmcrosscl': 'mmcrosscl',
        }
        return [
            Variant(name, loss, dict(settings, form=form))
            for name, form in forms.items()
            if form != 'fused' or has_fused_attention()
        ]

    measured = compare(variants(negatives), rounds)
    inputs = 4 * channels * (negatives + 2 * rows) / 2**20
    first = table(
        f'Loss and gradient: {rows:,} queries, {negatives:,} negatives, {channels} channels, fp32',
        ['', 'ms', 'speedup', 'peak MB without inputs'],
        [[m.name, 1000 * m.median, m.ratio(measured[0]), m.peak - inputs] for m in measured],
    )
    grown, count = [], negatives
    while count <= most:
        inputs = 4 * channels * (count + 2 * rows) / 2**20
        # about six matrices: logits, concatenated logits, scaled logits, log-softmax, two gradients
        needed = 4 * rows * count * 6 / 2**20
        plain, *_, fast = variants(count)
        if needed < available():
            plain, fast = compare([plain, fast], min(rounds, 3))
            row = [1000 * plain.median, plain.peak - inputs]
        else:
            (fast,) = compare([fast], min(rounds, 3))
            row = [f'not run: needs about {needed / 1024:.0f} GB', '']
        grown.append([count, *row, 1000 * fast.median, fast.peak - inputs])
        count = most if count < most < 4 * count else 4 * count
    second = table(
        'Time and peak memory by number of negatives',
        ['negatives', 'plain ms', 'plain MB', 'mmcrosscl ms', 'mmcrosscl MB'],
        grown,
    )
    return first + '\n' + second


def available() -> float:
    """Return the free memory of the GPU, or else the available memory of the host, in MB."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / 2**20
    return int(re.search(r'MemAvailable:\s+(\d+)', Path('/proc/meminfo').read_text())[1]) / 1024


def loss(rows: int, negatives: int, channels: int, form: str) -> Callable[[], object]:
    """Return a function that computes the loss and its gradient in one of three forms."""
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


def has_fused_attention() -> bool:
    """Return whether torch has the operator for the device; the one for CPUs is in torch 2.2."""
    return torch.cuda.is_available() or hasattr(
        torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu'
    )


def fused_info_nce(
    query: Tensor, positive: Tensor, negatives: Tensor, temperature: float
) -> tuple[Tensor]:
    """Compute the loss by torch's fused attention, whose keys and values are the negatives."""
    to_positive = (query * positive).sum(dim=1) / temperature
    log_sum = _Attention.apply(query, negatives, 1 / temperature)
    return ((torch.logaddexp(to_positive, log_sum) - to_positive).mean(),)


class _Attention(torch.autograd.Function):
    """Log-sum-exp of the logits, whose gradient is ``scale`` times the output of the attention."""

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
