import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mmcrosscl.errors import InputError
from mmcrosscl.models import InfoNCELoss, info_nce


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
        logits = [float(query[i] @ key) / temperature for key in keys]
        total = sum(math.exp(x) for x in logits)
        terms.append(math.log(total) - logits[0])
        expected_key = sum(math.exp(x) / total * key for x, key in zip(logits, keys))
        gradient[i] = (expected_key - positive[i]) / temperature / n
        hits += all(logits[0] > x for x in logits[1:])
    assert loss.item() == pytest.approx(sum(terms) / n, rel=1e-10, abs=1e-12)
    torch.testing.assert_close(query.grad, gradient, rtol=1e-9, atol=1e-12)
    if c > 1:  # in one dimension cosines tie
        assert accuracy.item() == pytest.approx(100 * hits / n)


def test_no_query_is_zero_with_a_graph():
    source = torch.randn(4, 3, requires_grad=True)
    loss, accuracy = info_nce(source[:0], torch.randn(0, 3), torch.randn(5, 3), 0.2)
    loss.backward()
    assert loss.item() == 0 and accuracy.item() == 0
    assert torch.equal(source.grad, torch.zeros(4, 3))


def test_equal_keys_are_no_hit():
    key = torch.ones(1, 1)
    assert info_nce(key, key, key, 0.2)[1].item() == 0


@pytest.mark.parametrize('temperature', [0, -0.2, float('nan')])
def test_temperature_must_be_above_zero(temperature):
    with pytest.raises(InputError, match='temperature is .*above 0'):
        InfoNCELoss(temperature)
    with pytest.raises(InputError, match='temperature is .*above 0'):
        info_nce(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2), temperature)


@pytest.mark.parametrize('shapes', [((2, 3), (1, 3), (4, 3)), ((2, 3), (2, 3), (4, 2))])
def test_shapes_must_agree(shapes):
    with pytest.raises(InputError, match=r'must be \(N, C\), \(N, C\) and \(K, C\)'):
        info_nce(*(torch.ones(shape) for shape in shapes), 0.2)
