"""Four processes exchange what they should, and no more bytes than necessary."""

import pytest
import torch

from mmcrosscl.models.communication import start_gather, to_device
from tests.models import distributed_worker as worker
from tests.models.test_distributed import run

WORLD = 4


def test_one_process_has_nothing_to_gather():
    x = torch.randn(3, 2)
    assert start_gather(x)() is x


def test_to_device_is_a_copy_there():
    x = torch.randn(3)
    assert torch.equal(to_device(x, torch.device('cpu')), x)


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    return run(worker.shuffle_and_gather, tmp_path_factory.mktemp('group'), WORLD)


def test_the_shuffle_is_that_of_the_whole_batch(results):
    """As if all had gathered all and taken its part of the permutation that the seed gives."""
    everything = torch.cat([worker.shuffled_images(rank) for rank in range(WORLD)])
    for seed in range(worker.SEEDS):
        order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))
        assert not torch.equal(order, torch.arange(len(order)))
        for rank, part in enumerate(everything[order].chunk(WORLD)):
            assert torch.equal(results[rank]['shuffled'][seed], part)


def test_all_comes_back_to_where_it_was(results):
    for rank, result in enumerate(results):
        for restored in result['restored']:
            assert torch.equal(restored, worker.shuffled_images(rank))
            # a map in channels-last memory, encoded as its double
        for restored in result['doubled']:
            assert torch.equal(restored, 2 * worker.shuffled_images(rank))


def test_it_receives_less_than_a_third_of_gathering(results):
    actual = [result['bytes'] for result in results]
    gathered = [result['gathered_bytes'] for result in results]
    assert all(one <= 0.3 * other for one, other in zip(actual, gathered))


def test_the_formulas_are_what_is_received(results):
    assert all(result['gathered_bytes'] == result['gathered_formula'] for result in results)
    # the permutation decides; over all ranks and seeds it is the mean
    mean = sum(result['bytes'] for result in results) / WORLD
    assert mean == pytest.approx(results[0]['shuffled_formula'], rel=0.05)


def test_gathered_rows_are_in_the_order_of_the_ranks(results):
    expected = torch.arange(WORLD).repeat_interleave(3).float()
    for result in results:
        assert torch.equal(result['gathered'][:, 0], expected)
