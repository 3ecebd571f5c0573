import json
import math

import pytest

from mmcrosscl.errors import InputError
from mmcrosscl.visualization import read_scalars
from tests.visualization.logs import toy_run


def test_training_and_evaluation_by_epoch(tmp_path):
    toy_run(tmp_path, [1.0, 2.0, 3.0], length=2)
    scalars = read_scalars(tmp_path)
    assert [(s['step'], s['epoch'], s['loss']) for s in scalars.train] == [
        (1, 1, 1.0), (2, 1, 2.0), (3, 1, 3.0), (4, 2, 1.0), (5, 2, 2.0), (6, 2, 3.0)
    ]  # fmt: skip
    assert all({'lr', 'time', 'data_time', 'acc_p4_p3'} <= s.keys() for s in scalars.train)
    assert [(s['step'], s['iter'], s['toy/mean']) for s in scalars.evaluation] == [
        (1, 3, 2.0),
        (2, 6, 2.0),
    ]


@pytest.mark.parametrize(
    'log_metric_by_epoch, steps', [(False, [2, 4]), (True, [0, 0])], ids=['iteration', 'epoch']
)
def test_evaluation_by_iteration(tmp_path, log_metric_by_epoch, steps):
    toy_run(tmp_path, [1.0, 3.0], by_epoch=False, length=4, log_metric_by_epoch=log_metric_by_epoch)
    scalars = read_scalars(tmp_path)
    assert [s['step'] for s in scalars.train] == [1, 2, 3, 4]
    assert [(s['step'], s['iter']) for s in scalars.evaluation] == [(steps[0], 2), (steps[1], 4)]
    assert all(s['toy/mean'] == 2.0 for s in scalars.evaluation)


def test_nan_and_inf_are_kept(tmp_path):
    toy_run(tmp_path, [math.nan, math.inf, -math.inf], length=1)
    scalars = read_scalars(tmp_path)
    losses = [s['loss'] for s in scalars.train]
    assert math.isnan(losses[0]) and losses[1:] == [math.inf, -math.inf]
    assert math.isnan(scalars.evaluation[0]['toy/mean'])


def write_log(work_dir, run, entries):
    folder = work_dir / run / 'vis_data'
    folder.mkdir(parents=True)
    # the last line is incomplete, as after the run was killed
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, entries)) + '\n{"iter": 99, "lo')


def train(steps, value):
    return [dict(step=s, iter=s, loss=value) for s in steps]


def test_a_resumed_run_replaces_repeated_steps(tmp_path):
    write_log(
        tmp_path, '20260102_000000', [*train([20], 2.0), {'step': 1, 'm': 2.0}, *train([30], 2.0)]
    )
    write_log(tmp_path, '20260101_000000', [*train([10, 20], 1.0), {'step': 1, 'm': 1.0}])
    scalars = read_scalars(tmp_path)
    assert [(s['step'], s['loss']) for s in scalars.train] == [(10, 1.0), (20, 2.0), (30, 2.0)]
    assert [(s['step'], s['iter'], s['m']) for s in scalars.evaluation] == [(1, 20, 2.0)]


def test_a_run_that_is_only_evaluated_has_scalars(tmp_path):
    write_log(tmp_path, '20260101_000000', [{'step': 0, 'm': 1.0}])
    scalars = read_scalars(tmp_path)
    assert not scalars.train and scalars.evaluation == [{'step': 0, 'iter': 0, 'm': 1.0}]


@pytest.mark.parametrize('entries', [None, []], ids=['no log', 'incomplete line'])
def test_a_folder_without_a_log_is_an_error(tmp_path, entries):
    if entries is not None:
        write_log(tmp_path, '20260101_000000', entries)
    with pytest.raises(InputError, match=f'{tmp_path} does not contain a training log; pass the'):
        read_scalars(tmp_path)


def test_lines_of_another_framework_are_counted_and_skipped(tmp_path):
    foreign = [{'iteration': 1, 'total_loss': 2.0}, [1, 2], 3, {'step': 'one', 'iter': 1}]
    write_log(tmp_path, '20260101_000000', [*foreign, *train([10], 1.0)])
    scalars = read_scalars(tmp_path)
    assert scalars.foreign == 4 and [s['loss'] for s in scalars.train] == [1.0]


def test_a_log_of_another_framework_only_is_an_error(tmp_path):
    write_log(tmp_path, '20260101_000000', [{'epoch': 1, 'loss': 2.0}] * 3)
    with pytest.raises(InputError, match='another framework: none of its 3 JSON lines has a step'):
        read_scalars(tmp_path)


def test_values_that_are_not_numbers_are_omitted(tmp_path):
    entries = [
        *train([10], 1.0),
        {**train([20], 2.0)[0], 'name': 'x', 'list': [1], 'large': 10**400},
    ]
    write_log(tmp_path, '20260101_000000', [*entries, *train([30], 3.0)])
    scalars = read_scalars(tmp_path).train
    assert scalars[1] == dict(step=20, iter=20, loss=2.0)
    assert [s['loss'] for s in scalars] == [1.0, 2.0, 3.0]


def test_columns_have_the_steps_at_which_a_scalar_is_logged(tmp_path):
    entries = train(range(1, 6), 1.0)
    entries[1]['grad_norm'], entries[3]['grad_norm'] = 5, math.nan
    # a later log replaces the whole iteration
    write_log(tmp_path, '20260101_000000', entries)
    write_log(tmp_path, '20260102_000000', train([2], 7.0))
    scalars = read_scalars(tmp_path).train
    assert scalars.names == ['step', 'iter', 'loss', 'grad_norm']
    steps, values = scalars.column('loss')
    assert steps.tolist() == [1, 2, 3, 4, 5] and values.tolist() == [1.0, 7.0, 1.0, 1.0, 1.0]
    steps, values = scalars.column('grad_norm')
    assert steps.tolist() == [4] and math.isnan(values[0])
    assert [s['step'] for s in scalars[-2:]] == [4, 5]
    assert isinstance(scalars[0]['step'], int)


def test_lines_that_are_valid_only_together_are_skipped(tmp_path):
    folder = tmp_path / '20260101_000000/vis_data'
    folder.mkdir(parents=True)
    lines = ['{"iter": 1, "step": 1', '"loss": 1.0}', json.dumps(train([2], 2.0)[0])]
    (folder / 'scalars.json').write_text('\n'.join(lines))
    assert [s['step'] for s in read_scalars(tmp_path).train] == [2]


def test_a_scalar_that_a_later_log_has_replaced_has_no_name(tmp_path):
    write_log(tmp_path, '20260101_000000', [dict(step=10, iter=10, loss=1.0, loss_p4_p3=1.0)])
    write_log(tmp_path, '20260102_000000', train([10, 20], 2.0))
    assert 'loss_p4_p3' not in read_scalars(tmp_path).train.names
