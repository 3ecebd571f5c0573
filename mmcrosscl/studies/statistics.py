"""Means, intervals and verdicts of a study."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

# MMDetection rounds APs to a tenth of a percentage point
RESOLUTION = 0.1
BETTER, WORSE, UNCLEAR = 'better', 'worse', 'not distinguishable'


class Mean(NamedTuple):
    """Mean of seeds with its 95 % interval, which is NaN for a single seed."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """Paired difference between two arms with the same number of labels.

    Attributes:
        first: Name of the first arm.
        second: Name of the second arm.
        labels: Number of labeled images.
        mean: Mean over seeds of the first arm's AP minus the second arm's AP.
        verdict: 'better' or 'worse' if the interval of the difference excludes 0, and otherwise
            'not distinguishable'.
    """

    first: str
    second: str
    labels: int
    mean: Mean
    verdict: str


def mean_with_interval(values: Sequence[float], rounded: int = 1) -> Mean:
    """Return the mean of independent values with a 95 % interval of Student's t-distribution.

    Student, 1908, "The probable error of a mean". The standard deviation is at least that of the
    rounding error, because the values of a few seeds can be equal by their rounding alone.

    Args:
        values (Sequence[float]): One value per seed in percent, at least one.
        rounded (int): Number of APs whose sum or difference a value is. Defaults to 1.
    """
    mean = float(np.mean(values))
    count = len(values)
    if count < 2:
        return Mean(mean, math.nan, math.nan)
    deviation = max(np.std(values, ddof=1), RESOLUTION * math.sqrt(rounded / 12))
    half = float(stats.t.ppf(0.975, count - 1) * deviation / math.sqrt(count))
    return Mean(mean, mean - half, mean + half)


def compare(scores: Mapping[tuple[str, int], Mapping[int, float]], labels: int) -> list[Difference]:
    """Compare all pairs of arms with the same number of labels.

    The seeds of two arms have the same subset of labels, so their difference is paired by seed.

    Args:
        scores (Mapping): AP by (arm, number of labels) and by seed.
        labels (int): Number of labeled images.

    Returns:
        list[Difference]: One per pair of arms that have a seed in common. The first arm of a pair
        is the one that comes later in ``scores``, as random weights usually come first.
    """
    arms = [arm for arm, count in scores if count == labels]
    found = []
    for second, first in itertools.combinations(arms, 2):
        a, b = scores[first, labels], scores[second, labels]
        common = sorted(a.keys() & b.keys())
        if not common:
            continue
        mean = mean_with_interval([a[seed] - b[seed] for seed in common], rounded=2)
        found.append(Difference(first, second, labels, mean, _verdict(mean)))
    return found


def _verdict(mean: Mean) -> str:
    if mean.low > 0:
        return BETTER
    return WORSE if mean.high < 0 else UNCLEAR
