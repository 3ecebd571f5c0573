import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mmcrosscl.errors import InputError
from mmcrosscl.models import InfoNCELoss, info_nce
from mmcrosscl.oracles.info_nce import plain_info_nce


def unit_rows(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, columns, generator=generator, dtype=torch.float64), dim=1)


@given(
    n=st.integers(1, 6),
    k=st.integers(1, 9),
    c=st.integers(1, 8),
    temperature=st.floats(0.05, 5),
    seed=st.integers(0, 1000),
)
def test_value_gradient_and_accuracy_follow_the_formula(n, k, c, temperature, seed):
    query = unit_rows(n, c, seed).requires_grad_()
    positive, negatives = unit_rows(n, c, seed + 1), unit_rows(k, c, seed + 2)
    loss, accuracy = info_nce(query, positive, negatives, temperature)
    loss.backward()

    terms, gradient, hits = [], torch.zeros(n, c, dtype=torch.float64), 0
    for i in range(n):
        keys = [positive[i], *negatives]
        logits = [float(query[i].detach() @ key) / temperature for key in keys]
        total = sum(math.exp(x) for x in logits)
        terms.append(math.log(total) - logits[0])
        expected_key = sum(math.exp(x) / total * key for x, key in zip(logits, keys))
        gradient[i] = (expected_key - positive[i]) / temperature / n
        hits += all(logits[0] > x for x in logits[1:])
    assert loss.item() == pytest.approx(sum(terms) / n, rel=1e-10, abs=1e-12)
    torch.testing.assert_close(query.grad, gradient, rtol=1e-9, atol=1e-12)
    if c > 1:  # in one dimension, cosine similarities can be equal
        assert accuracy.item() == pytest.approx(100 * hits / n)


def test_the_loss_of_no_queries_is_zero_with_a_graph():
    source = torch.randn(4, 3, requires_grad=True)
    loss, accuracy = info_nce(source[:0], torch.randn(0, 3), torch.randn(5, 3), 0.2)
    loss.backward()
    assert loss.item() == 0 and accuracy.item() == 0
    assert torch.equal(source.grad, torch.zeros(4, 3))


def test_equal_similarities_are_not_a_hit():
    key = torch.ones(1, 1)
    assert info_nce(key, key, key, 0.2)[1].item() == 0


@pytest.mark.parametrize('temperature', [0, -0.2, float('nan')])
def test_temperature_must_be_above_zero(temperature):
    with pytest.raises(InputError, match='temperature is .*above 0'):
        InfoNCELoss(temperature)
    with pytest.raises(InputError, match='temperature is .*above 0'):
        info_nce(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2), temperature)


@pytest.mark.parametrize(
    'shapes', [((2, 3), (1, 3), (4, 3)), ((2, 3), (2, 3), (4, 2)), ((3,), (3,), (4, 3))]
)
def test_shapes_must_agree(shapes):
    with pytest.raises(
        InputError, match=r'expected .* \(..., N, C\), \(..., N, C\) and \(K, C\), but got'
    ):
        info_nce(*(torch.ones(shape) for shape in shapes), 0.2)


def test_no_negatives_or_negatives_with_gradient_raise_an_error():
    ones = torch.ones(2, 3)
    with pytest.raises(InputError, match='no negatives; pass at least one'):
        info_nce(ones, ones, ones[:0], 0.2)
    with pytest.raises(InputError, match='negatives require gradient'):
        info_nce(ones, ones, ones.clone().requires_grad_(), 0.2)


def random_case(shape, negatives, dtype, device='cpu', spread=0.05):
    """Return queries near their positives, negatives, and a random weight for each term."""
    generator = torch.Generator().manual_seed(0)

    def rows(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    positive = F.normalize(rows(*shape), dim=-1)
    query = F.normalize(positive + spread * rows(*shape), dim=-1)
    negatives = F.normalize(rows(negatives, shape[-1]), dim=-1)
    weights = rows(*shape[:-2])
    return [x.to(device, dtype) for x in (query, positive, negatives, weights)]


def value_and_gradient(loss, query, positive, negatives, weights):
    query = query.clone().requires_grad_()
    value, accuracy = loss(query, positive, negatives, 0.2)
    (weights * value).sum().backward()
    return value.detach(), query.grad, accuracy


SHAPES = [((7, 16), 1), ((5, 128), 1000), ((2, 300, 64), 5000), ((2, 3, 50, 16), 777)]


@pytest.mark.parametrize('shape, negatives', SHAPES)
@pytest.mark.parametrize('dtype, bound', [(torch.float64, 1e-10), (torch.float32, 1e-6)])
def test_info_nce_matches_the_plain_loss(shape, negatives, dtype, bound):
    inputs = random_case(shape, negatives, dtype)
    actual, reference = (value_and_gradient(loss, *inputs) for loss in (info_nce, plain_info_nce))
    for one, other in zip(actual[:2], reference):
        assert one.shape == other.shape and one.dtype == dtype
        # relative to the largest value, because a small loss is a difference of large logits
        assert (one - other).abs().max() <= bound * max(1, other.abs().max())
    torch.testing.assert_close(actual[2], reference[2])
    assert 0 < actual[2].min() <= 100


def test_accuracy_counts_hits_and_misses():
    *inputs, _ = random_case((200, 8), 3000, torch.float64, spread=0.3)
    accuracy = info_nce(*inputs, 0.2)[1]
    assert 5 < accuracy < 95 and accuracy == plain_info_nce(*inputs, 0.2)[1]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_within_one_percent(dtype):
    exact = random_case((2, 300, 64), 5000, torch.float64, spread=0.3)
    value, gradient, _ = value_and_gradient(plain_info_nce, *exact)
    half, half_gradient, _ = value_and_gradient(info_nce, *(x.to(dtype) for x in exact))
    torch.testing.assert_close(half.double(), value, rtol=0.01, atol=0)
    assert (half_gradient.double() - gradient).norm() < 0.01 * gradient.norm()


def test_terms_in_one_call_match_terms_in_separate_calls():
    query, positive, negatives, _ = random_case((3, 40, 16), 500, torch.float64, spread=0.3)
    together = info_nce(query, positive, negatives, 0.2)
    apart = zip(*(info_nce(q, p, negatives, 0.2) for q, p in zip(query, positive)))
    for one, other in zip(together, apart):
        torch.testing.assert_close(one, torch.stack(other), rtol=1e-12, atol=0)


def test_large_logits_do_not_overflow():
    query, positive, negatives, weights = random_case((20, 16), 300, torch.float32)
    # unit length is documented, but longer vectors must not overflow either
    inputs = (30 * query, 30 * positive, 30 * negatives, weights)
    actual, reference = (value_and_gradient(loss, *inputs) for loss in (info_nce, plain_info_nce))
    torch.testing.assert_close(actual[0], reference[0])
    torch.testing.assert_close(actual[1], reference[1], rtol=1e-4, atol=1e-4)


MEMORY = """
import re, resource, sys, torch
from pathlib import Path
from mmcrosscl.models import info_nce
from mmcrosscl.oracles.info_nce import plain_info_nce
torch.set_num_threads(1)
query, negatives = torch.ones(1152, 16).requires_grad_(), torch.ones(1_000_000, 16)
def memory(which):
    return int(re.search(which + r':\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024
info_nce(query[:8], query[:8].detach(), negatives[:999], 0.2)[0].backward()
Path('/proc/self/clear_refs').write_text('5')  # resets the peak
before = memory('VmRSS')
resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30,) * 2)
try:
    loss = dict(info_nce=info_nce, plain_info_nce=plain_info_nce)[sys.argv[1]]
    loss(query, query.detach(), negatives, 0.2)[0].backward()
except RuntimeError as error:
    sys.exit('alloc' in str(error) and 'out of memory')
print('MB more:', memory('VmHWM') - before)
"""


@pytest.mark.slow
def test_a_million_negatives_need_no_matrix_of_logits():
    """1,152 × 1,000,000 logits need 4.6 GB, but the process may use only 3 GB."""

    def run(name):
        return subprocess.run(
            [sys.executable, '-c', MEMORY, name], capture_output=True, text=True, timeout=300
        )

    actual, reference = run('info_nce'), run('plain_info_nce')
    assert actual.returncode == 0, actual.stderr
    assert 0 < float(actual.stdout.rpartition(' ')[2]) < 40
    assert reference.returncode == 1 and 'out of memory' in reference.stderr


@pytest.mark.gpu
@pytest.mark.parametrize('shape, negatives', SHAPES)
def test_a_gpu_matches_the_plain_loss_without_waiting(shape, negatives):
    inputs = random_case(shape, negatives, torch.float32, 'cuda')
    reference = value_and_gradient(plain_info_nce, *inputs)
    torch.cuda.set_sync_debug_mode('error')
    try:
        actual = value_and_gradient(info_nce, *inputs)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    for one, other in zip(actual, reference):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
