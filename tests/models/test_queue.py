from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcrosscl.errors import InputError
from mmcrosscl.models import KeyQueue


@given(length=st.integers(1, 12), batches=st.lists(st.integers(1, 30), max_size=8))
def test_the_queue_keeps_the_last_keys_in_a_ring(length, batches):
    queue = KeyQueue(2, length)
    ring = deque(queue.keys.tolist(), maxlen=length)
    written = 0
    for batch in batches:
        keys = torch.arange(written, written + batch).float()[:, None].expand(batch, 2)
        queue.enqueue(keys)
        ring.extend(keys.tolist())
        written += batch
        assert queue.pointer.item() == written % length
        # the pointer is the row of the oldest key
        start = queue.pointer.item()
        assert torch.cat((queue.keys[start:], queue.keys[:start])).tolist() == list(ring)


def test_initial_keys_have_unit_length():
    queue = KeyQueue(128, 32)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(32))


def test_enqueue_does_not_change_returned_keys():
    queue = KeyQueue(2, 4)
    before = queue()
    kept = before.clone()
    queue.enqueue(torch.ones(4, 2))
    assert torch.equal(before, kept)


@pytest.mark.parametrize('dim, length', [(0, 4), (2, 0), (2, -1)])
def test_an_empty_queue_or_key_raises_an_error(dim, length):
    with pytest.raises(InputError, match='at least 1'):
        KeyQueue(dim, length)


def test_the_queue_rejects_nan_inf_keys():
    queue = KeyQueue(3, 8)
    before = queue.keys.clone()
    keys = torch.ones(4, 3)
    keys[1, 2], keys[3, 0] = torch.nan, torch.inf
    queue.enqueue(keys)
    assert torch.equal(queue.keys[[0, 2]], keys[[0, 2]])
    assert torch.equal(queue.keys[[1, 3]], before[[1, 3]])
    assert queue.pointer == 4
