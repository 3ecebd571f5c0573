import math

import numpy as np
import pytest

from mmcrosscl.studies import compare, mean_with_interval


def test_the_interval_is_that_of_students_t_distribution():
    # t with two degrees of freedom is 4.303 at 97.5 %
    mean = mean_with_interval([4.0, 5.0, 6.0])
    half = 4.303 * 1.0 / math.sqrt(3)
    assert mean == pytest.approx((5, 5 - half, 5 + half), abs=1e-3)


def test_the_interval_covers_the_mean_in_95_percent_of_samples():
    generator = np.random.default_rng(0)
    covered = 0
    for sample in generator.normal(2, 1, size=(2000, 3)):
        mean = mean_with_interval(list(sample))
        covered += mean.low <= 2 <= mean.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_one_seed_has_no_interval_and_no_verdict():
    mean = mean_with_interval([3.0])
    assert mean.value == 3 and math.isnan(mean.low)
    (found,) = compare({('b', 50): {0: 1.0}, ('a', 50): {0: 5.0}}, 50)
    assert found.mean.value == 4 and found.verdict == 'not distinguishable'


@pytest.mark.parametrize(
    ('second', 'verdict'),
    [
        ({0: 1.0, 1: 2.0, 2: 3.1}, 'better'),
        ({0: 9.0, 1: 10.0, 2: 11.1}, 'worse'),
        ({0: 9.0, 1: 2.0, 2: 6.0}, 'not distinguishable'),
    ],
)
def test_the_verdict_follows_the_paired_interval(second, verdict):
    # the seeds differ more than the arms, which only a paired comparison can tell
    first = {0: 5.0, 1: 6.1, 2: 7.0}
    scores = {('b', 50): second, ('a', 50): first, ('b', 200): {0: 0.0}}
    (found,) = compare(scores, 50)
    assert (found.first, found.second, found.verdict) == ('a', 'b', verdict)


def test_only_common_seeds_are_compared():
    scores = {('a', 50): {0: 1.0, 1: 5.0}, ('b', 50): {1: 3.0, 2: 9.0}, ('c', 50): {5: 0.0}}
    found = compare(scores, 50)
    assert [(each.first, each.second, each.mean.value) for each in found] == [('b', 'a', -2.0)]


def test_equal_differences_of_rounded_values_are_no_verdict_with_two_seeds():
    (found,) = compare({('b', 50): {0: 4.2, 1: 3.9}, ('a', 50): {0: 4.3, 1: 4.0}}, 50)
    # 12.706 is t with one degree of freedom, and 0.1 / sqrt(6) the deviation of the rounding
    half = 12.706 * 0.1 / math.sqrt(6) / math.sqrt(2)
    assert found.mean == pytest.approx((0.1, 0.1 - half, 0.1 + half), abs=1e-3)
    assert found.verdict == 'not distinguishable'
