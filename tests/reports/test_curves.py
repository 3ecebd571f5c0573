import json
import math

import numpy as np
import pytest

from mmcrosscl.reports.curves import downsample, read_curves, term_label
from mmcrosscl.visualization import read_scalars
from tests.reports.work_dirs import similarity_entry, train_entries, write_session


def curves_of(work_dir, entries, points=1500, batch=None):
    """Return the curves of a run by plot and label."""
    write_session(work_dir, entries)
    curves = read_curves(read_scalars(work_dir), points, batch)
    return {(curve.plot.name, curve.label): curve for curve in curves}


def test_a_short_curve_keeps_all_points():
    assert downsample(np.arange(20.0), 20).tolist() == list(range(20))


@pytest.mark.parametrize('count', [1501, 4000, 99_991, 1_000_000])
def test_downsampling_keeps_both_ends_spikes_and_gaps(count):
    values = np.random.default_rng(0).normal(size=count)
    spikes = {count // 7: 50.0, count // 3: -50.0, count // 2: math.nan, count * 2 // 3: math.inf}
    for index, value in spikes.items():
        values[index] = value
    kept = downsample(values, 1500)
    assert len(kept) <= 1500 and (np.diff(kept) > 0).all()
    assert {0, count - 1, *spikes} <= set(kept.tolist())
    assert len(kept) > 500


def test_downsampling_shows_the_range_of_every_part():
    values = np.sin(np.arange(100_000) / 10) * np.linspace(1, 3, 100_000)
    kept = downsample(values, 300)
    for part in np.array_split(np.arange(100_000), 100):
        inside = values[kept[(kept >= part[0]) & (kept <= part[-1])]]
        assert inside.max() > 0.9 * values[part].max() and inside.min() < 0.9 * values[part].min()


def test_a_curve_without_finite_values_is_downsampled():
    assert 5 <= len(downsample(np.full(10_000, np.nan), 100)) <= 100


def test_scalars_of_training_are_assigned_to_plots(tmp_path):
    curves = curves_of(tmp_path, train_entries(range(10, 101, 10)))
    assert [key for key in curves if key[0] == 'terms'] == [
        ('terms', label) for label in ('global', 'P4 → P4', 'P3 → P3', 'P4 → P3', 'P3 → P4')
    ]
    assert {name for name, _ in curves} == {
        'loss', 'terms', 'accuracy', 'lr', 'norm', 'paired', 'speed', 'wait', 'memory'
    }  # fmt: skip
    wait, paired, memory = (curves[key] for key in (
        ('wait', 'data wait'), ('paired', 'paired windows'), ('memory', 'memory')
    ))  # fmt: skip
    assert wait.last == pytest.approx(5) and paired.last == pytest.approx(56) and memory.last == 2
    loss = curves['loss', 'loss']
    assert loss.steps.tolist() == list(range(10, 101, 10))
    assert (loss.first, loss.last) == pytest.approx((38.5, 25.0))
    assert loss.lowest == loss.last and loss.highest == loss.first and loss.logged == 10


def test_extremes_are_those_of_all_values_and_not_of_the_points(tmp_path):
    entries = [dict(loss=float(s % 100), iter=s, step=s) for s in range(1, 5001)]
    entries[2500]['loss'], entries[3000]['loss'] = 1e6, math.nan
    loss = curves_of(tmp_path, entries, points=100)['loss', 'loss']
    assert len(loss.steps) <= 100 and loss.logged == 5000 and loss.non_finite == 1
    assert loss.highest == 1e6 and loss.middle == pytest.approx(49, abs=1)
    assert 1e6 in loss.values and np.isnan(loss.values).sum() == 1


@pytest.mark.parametrize('batch', [32, None])
def test_older_logs_have_computed_speed_and_data_wait(tmp_path, batch):
    entries = [dict(loss=1.0, time=0.4, data_time=0.1, iter=s, step=s) for s in (1, 2)]
    curves = curves_of(tmp_path, entries, batch=batch)
    assert curves['wait', 'data wait'].values.tolist() == [25.0, 25.0]
    assert (('speed', 'images/s') in curves) == (batch is not None)
    if batch:
        assert curves['speed', 'images/s'].values.tolist() == pytest.approx([80.0, 80.0])


def test_other_scalars_are_drawn_too(tmp_path):
    entries = [dict(pairs=3.0, acc=50.0, grad_norm=2.0, momentum=0.9, iter=1, step=1)]
    assert set(curves_of(tmp_path, entries)) == {
        ('other', 'pairs'), ('acc', 'acc'), ('norm', 'norm')
    }  # fmt: skip


def test_similarity_has_an_interval(tmp_path):
    entries = [*train_entries([10]), similarity_entry(10), *train_entries([20])]
    curves = curves_of(tmp_path, [*entries, similarity_entry(20)])
    margin = curves['margin', 'P3 → P4']
    assert margin.steps.tolist() == [10, 20]
    assert margin.values.tolist() == pytest.approx([0.09, 0.13])
    np.testing.assert_allclose(margin.interval, [[0.06, 0.1], [0.12, 0.16]])
    recall = curves['recall', 'P3 → P3']
    assert recall.values.tolist() == pytest.approx([24, 28]) and recall.interval[0, 0] > 1
    assert not any('low' in label or 'high' in label for _, label in curves)


def test_precision_of_a_detector_is_in_percent(tmp_path):
    ap = {'coco/bbox_mAP': 0.25, 'coco/bbox_mAP_50': 0.5, 'coco/bbox_mAP_s': -1.0, 'step': 1}
    curves = curves_of(tmp_path, [*train_entries([10]), {**ap, 'coco/segm_mAP': 0.2, 'top1': 40}])
    found = {key: c.last for key, c in curves.items() if c.plot.section == 'evaluation'}
    assert found == {
        ('coco/bbox', 'AP'): 25.0, ('coco/bbox', 'AP 50'): 50.0, ('coco/segm', 'AP'): 20.0,
        ('Evaluation', 'top1'): 40.0,
    }  # fmt: skip
    assert curves['coco/bbox', 'AP'].steps.tolist() == [10]


def test_a_metric_that_is_not_a_number_is_omitted(tmp_path):
    folder = tmp_path / '20260101_000000/vis_data'
    folder.mkdir(parents=True)
    lines = [dict(step=1, a=1.0, b='x'), dict(step=2, a=None)]
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    (curve,) = read_curves(read_scalars(tmp_path), 100)
    assert curve.label == 'a' and curve.steps.tolist() == [1]


@pytest.mark.parametrize(
    'name, label',
    [
        ('p4_p3', 'P4 → P3'),
        ('p3_p4_one_view', 'P3 → P4, one view'),
        ('rpn_cls', 'rpn_cls'),
        ('lr', 'learning rate'),
    ],
)
def test_labels_of_terms(name, label):
    assert term_label(name) == label
