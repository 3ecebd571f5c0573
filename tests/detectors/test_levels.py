"""The levels and terms that pre-training of a detector uses by default."""

import pytest

from mmcrosscl.configs import settings
from mmcrosscl.detectors import choose_levels, choose_terms


@pytest.mark.parametrize(
    'strides, levels',
    [
        ((4, 8, 16, 32, 64), dict(p4=16, p3=8)),
        ((32, 16, 8), dict(p4=16, p3=8)),
        ((16, 32, 64), dict(p5=32, p4=16)),
        ((4, 16, 32), dict(p5=32, p4=16)),
        ((32,), dict(p5=32)),
        ((4, 4), dict(p2=4)),
        ((4, 16), dict(p2=4)),
        ((0, 8, 16), dict(p4=16, p3=8)),
        ((0,), {}),
    ],
)
def test_the_default_levels(strides, levels):
    assert choose_levels(strides) == levels
    assert list(choose_levels(strides)) == list(levels)


def test_the_terms_of_p4_and_p3_are_those_of_the_published_config():
    published = settings('crosscl/r50_8xb32.py').model.head.terms
    assert choose_terms(dict(p4=16, p3=8)) == [dict(term) for term in published]


@pytest.mark.parametrize(
    'level, stride, negatives', [('p5', 32, 'all_ranks'), ('p2', 4, 'own_rank')]
)
def test_one_level_is_contrasted_with_itself(level, stride, negatives):
    assert choose_terms({level: stride})[1:] == [dict(query=level, key=level, negatives=negatives)]
