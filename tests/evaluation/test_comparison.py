import json
import math

import pytest
import torch

from mmcrosscl.datasets.demo import write_demo_objects
from mmcrosscl.errors import InputError
from mmcrosscl.evaluation import compare_checkpoints, comparison_table
from mmcrosscl.evaluation import comparison as comparison_module
from tests.evaluation.checkpoints import write_crosscl, write_detector


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('comparison')
    write_demo_objects(folder / 'objects', train=2, val=12)
    write_crosscl(folder / 'crosscl.pth')
    write_detector(folder / 'detector.pth')
    return folder


@pytest.fixture(scope='module')
def comparison(root):
    checkpoints = dict(
        untrained=None,
        CrossCL=str(root / 'crosscl.pth'),
        detector=str(root / 'detector.pth'),
    )
    return compare_checkpoints(checkpoints, root / 'objects/annotations/val.json', view_size=64)[0]


def test_all_checkpoints_are_compared_on_the_same_regions(comparison):
    names = [measured.name for measured in comparison.checkpoints]
    assert names == ['untrained', 'CrossCL', 'detector']
    assert comparison.regions == 'boxes' and 0 < comparison.images <= 12
    pairs = [(p.query, p.key, p.views) for p in comparison.checkpoints[1].levels]
    assert pairs == [('p3', 'p3', 2), ('p4', 'p4', 2), ('p3', 'p4', 2), ('p3', 'p4', 1)]
    assert len(comparison.checkpoints[2].levels) == 3 + 3 + 3
    assert [p.stages for p in comparison.checkpoints[1].stages] == [
        ('c3', 'c4'), ('c3', 'c5'), ('c4', 'c5'),
    ]  # fmt: skip


def test_the_comparison_is_reproducible(comparison, root):
    checkpoints = dict(CrossCL=str(root / 'crosscl.pth'))
    again, _ = compare_checkpoints(checkpoints, root / 'objects/annotations/val.json', view_size=64)
    assert again.checkpoints[0] == comparison.checkpoints[1]


def test_the_json_is_valid_and_complete(comparison):
    def refuse(constant):
        raise ValueError(constant)

    contents = json.loads(comparison.to_json(), parse_constant=refuse)
    rows = contents['checkpoints'][1]['rows']
    assert rows[0]['kind'] == 'levels' and rows[0]['query'] == 'p3' and rows[0]['views'] == 2
    value, low, high = rows[0]['margin']
    assert low <= value <= high
    assert rows[-1]['kind'] == 'cka' and rows[-1]['stages'] == ['c4', 'c5']


def test_nan_becomes_null_in_the_json(comparison):
    from dataclasses import replace

    pair = comparison.checkpoints[1].stages[0]
    broken = replace(pair, cka=type(pair.cka)(*[math.nan] * 3))
    measured = replace(comparison.checkpoints[1], stages=(broken,))
    text = replace(comparison, checkpoints=(measured,)).to_json()
    assert json.loads(text)['checkpoints'][0]['rows'][-1]['cka'] == [None] * 3


def test_the_table_has_a_row_per_checkpoint_and_pair(comparison):
    text = comparison_table(comparison)
    block = text.split('P3 and P4, between two views')[1].split('\n\n')[0]
    assert [line.split()[0] for line in block.splitlines()[2:]] == [
        'untrained',
        'CrossCL',
        'detector',
    ]
    pair = comparison.checkpoints[1].levels[2]
    margin = f'{pair.margin.value:.2f} [{pair.margin.low:.2f}, {pair.margin.high:.2f}]'
    assert margin in block


def test_windows_are_used_without_labels(root):
    checkpoints = dict(CrossCL=str(root / 'crosscl.pth'))
    found, _ = compare_checkpoints(checkpoints, root / 'objects/val', images=4, view_size=64)
    assert found.regions == 'windows' and found.images <= 4 < found.objects


def test_an_untrained_model_alone_needs_a_config(root):
    with pytest.raises(InputError, match='needs a config'):
        compare_checkpoints(dict(untrained=None), root / 'objects/val')


@pytest.mark.parametrize(
    ('regions', 'used'), [((3, 3, 3), 9), ((3, 3, 6), 6), ((12, 3), 12), ((9, 12), 9)]
)
def test_whole_images_are_aligned_up_to_a_number_of_regions(monkeypatch, regions, used):
    counts = []
    monkeypatch.setattr(comparison_module, 'CKA_REGIONS', 10)
    monkeypatch.setattr(comparison_module, 'linear_cka', lambda a, b, image: counts.append(len(a)))
    image = torch.arange(len(regions)).repeat_interleave(torch.tensor(regions))
    vectors = dict.fromkeys(['c4', 'c5'], torch.zeros(len(image), 2))
    comparison_module._align(vectors, image)
    assert counts == [used]
