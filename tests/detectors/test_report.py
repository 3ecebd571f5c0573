"""The levels in the summaries of a pre-training."""

from types import SimpleNamespace

import pytest

from mmcrosscl.detectors import used_levels

FEATURES = SimpleNamespace(levels=dict(p4=16, p3=8), map_strides=(8, 16, 32))
GLOBAL = dict(query='global', key='global', negatives='queue')
TERMS = [GLOBAL, dict(query='p5', key='p4', negatives='all_ranks')]


def model(neck='mmcrosscl.DetectorNeck', head='mmcrosscl.CrossCLHead', **settings):
    levels = dict(p4=16, p3=8, p5=32)
    return dict(neck=dict(type=neck, levels=levels) | settings, head=dict(type=head, terms=TERMS))


def test_levels_that_the_terms_use():
    assert list(used_levels(model(), FEATURES).items()) == [('p5', 32), ('p4', 16)]
    assert used_levels(model(), FEATURES, ['query']) == dict(p5=32)
    only_global = model()
    only_global['head']['terms'] = [GLOBAL]
    assert used_levels(only_global, FEATURES) == {}


@pytest.mark.parametrize(
    'settings',
    [
        dict(neck='mmcrosscl.CrossCLNeck'),
        dict(neck='MyNeck'),
        dict(head='mmpretrain.MoCoV3Head'),
        dict(levels=dict(p4=16, p5=64)),
    ],
)
def test_the_levels_of_the_dry_run_if_those_of_the_model_are_unknown(settings):
    assert used_levels(model(**settings), FEATURES) == FEATURES.levels
