"""Results and received bytes of batch shuffling and gathering between four processes."""

import pytest
import torch

from mmcrosscl.models.communication import start_gather, to_device
from tests.models import distributed_worker as worker
from tests.models.test_distributed import run

WORLD = 4


def test_one_process_gathers_without_communication():
    x = torch.randn(3, 2)
    assert start_gather(x)() is x


def test_to_device_keeps_the_values():
    x = torch.randn(3)
    assert torch.equal(to_device(x, torch.device('cpu')), x)


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    return run(worker.shuffle_and_gather, tmp_path_factory.mktemp('group'), WORLD)


def test_shuffle_permutes_the_global_batch(results):
    """Each rank receives its part of the seed's permutation of all images."""
    everything = torch.cat([worker.shuffled_images(rank) for rank in range(WORLD)])
    for seed in range(worker.SEEDS):
        order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))
        assert not torch.equal(order, torch.arange(len(order)))
        for rank, part in enumerate(everything[order].chunk(WORLD)):
            assert torch.equal(results[rank]['shuffled'][seed], part)


def test_features_return_to_their_images(results):
    for rank, result in enumerate(results):
        for restored in result['restored']:
            assert torch.equal(restored, worker.shuffled_images(rank))
        # the doubled images are in channels-last memory
        for restored in result['doubled']:
            assert torch.equal(restored, 2 * worker.shuffled_images(rank))


def test_shuffle_receives_less_than_a_third_of_the_bytes_of_gathering(results):
    actual = [result['bytes'] for result in results]
    gathered = [result['gathered_bytes'] for result in results]
    assert all(one <= 0.3 * other for one, other in zip(actual, gathered))


def test_the_formulas_match_the_received_bytes(results):
    assert all(result['gathered_bytes'] == result['gathered_formula'] for result in results)
    # the bytes depend on the permutation, and the formula is their expected value
    mean = sum(result['bytes'] for result in results) / WORLD
    assert mean == pytest.approx(results[0]['shuffled_formula'], rel=0.05)


def test_gathered_rows_are_in_rank_order(results):
    expected = torch.arange(WORLD).repeat_interleave(3).float()
    for result in results:
        assert torch.equal(result['gathered'][:, 0], expected)
