from datetime import datetime, timedelta

import pytest

from mmcrosscl.errors import EXIT_PREEMPTED
from mmcrosscl.reports.logs import read_session
from tests.engine.runs import finish, start, tiny_run
from tests.reports.work_dirs import START, train_entries, write_session


def test_a_session(tmp_path):
    warnings = [
        f'WARNING - NaN/Inf loss or gradient in iteration {n}: the update is skipped (1 '
        'consecutive, 1 in total).' for n in (12, 34)
    ]  # fmt: skip
    preempted = 'WARNING - Preempted: saved a b/iter_42.pth after iteration 42. The exit status ...'
    log = write_session(
        tmp_path, train_entries([10, 20, 40]), resumed_after=5, lines=[*warnings, preempted]
    )
    session = read_session(log)
    assert session.started == START and session.ended > START + timedelta(seconds=60)
    assert session.resumed_after == 5 and session.beginning == 'resumed after iteration 5'
    assert session.iteration == 42 and session.total == 100 and session.epoch_length is None
    assert session.preempted_after == 42 and session.non_finite == (12, 34)
    assert session.summary['model'] == 'CrossCL with ResNet-18, 12.9 M trainable parameters'
    assert session.environment['GPU 0'] == 'NVIDIA H100'
    assert session.environment['GPU number'] == '2'
    assert not any('compiling' in name or 'GCC' in name for name in session.environment)


@pytest.mark.slow(20)
def test_the_logs_of_a_run(tmp_path):
    """The patterns match what MMEngine and the hooks write."""
    cfg = tiny_run(tmp_path, by_epoch=False, length=5)
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    cfg.custom_hooks = [
        dict(type='Diary', folder=str(tmp_path), stop_at=3),
        dict(type='Poison', iterations=[1]),
    ]
    assert finish(start(cfg)) == [EXIT_PREEMPTED]
    cfg.custom_hooks, cfg.resume = [], True
    assert finish(start(cfg)) == [0]
    first, second = map(read_session, sorted((tmp_path / 'work').glob('*/*.log')))
    assert (first.iteration, first.total, first.resumed_after) == (4, 5, 0)
    assert first.preempted_after == 4 and first.non_finite == (2,)
    assert first.beginning == 'random weights'
    assert (second.iteration, second.total, second.resumed_after) == (5, 5, 4)
    assert second.preempted_after is None and second.non_finite == ()
    assert second.summary['start'] == 'resumes after iteration 4'
    assert second.summary['schedule'] == '5 iterations, 4 images per iteration'
    assert {'PyTorch', 'MMEngine', 'GPU number', 'seed'} <= second.environment.keys()
    assert abs(datetime.now() - second.ended) < timedelta(minutes=2)


def test_iterations_of_epochs(tmp_path):
    log = write_session(tmp_path, [])
    with log.open('a') as file:
        file.write(
            '2026/01/01 11:00:00 - mmengine - INFO - Epoch(train)   [3][ 50/117]  lr: 1.0e-02\n'
        )
    session = read_session(log)
    assert session.iteration == 2 * 117 + 50 and session.epoch_length == 117
    assert session.total is None


def test_half_a_log(tmp_path):
    log = write_session(tmp_path, train_entries([10]))
    text = log.read_bytes()
    for length in (0, 10, 200, len(text) // 2, len(text) - 30):
        log.write_bytes(text[:length])
        session = read_session(log)
        assert (session.started is None) == (length < 40)
        assert session.iteration == 0


def test_a_log_of_another_program(tmp_path):
    log = tmp_path / 'x.log'
    log.write_bytes(b'epoch 1 loss 2.0\n\xff\xfe\x00')
    assert read_session(log).started is None
    log.write_text('9999/99/99 99:99:99 - mmengine - INFO - x\n')
    assert read_session(log).started is None
