import math

import pytest

from mmcrosscl.studies.publish import format_mean
from mmcrosscl.studies.statistics import Mean


@pytest.mark.parametrize(
    ('mean', 'plain', 'signed'),
    [
        (Mean(5.2, 4.8, 5.61), '5.2 [4.8, 5.6]', '+5.2 [+4.8, +5.6]'),
        (Mean(-0.04, -1.2, 1.1), '0.0 [-1.2, 1.1]', '+0.0 [-1.2, +1.1]'),
        (Mean(1.1, -0.02, 2.2), '1.1 [-0.0, 2.2]', '+1.1 [-0.0, +2.2]'),
        (Mean(-0.3, math.nan, math.nan), '-0.3', '-0.3'),
    ],
)
def test_means_have_an_interval_and_zero_has_no_minus_sign(mean, plain, signed):
    assert format_mean(mean) == plain
    assert format_mean(mean, '+') == signed
