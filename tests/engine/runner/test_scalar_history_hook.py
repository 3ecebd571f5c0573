import pytest
from mmengine.logging import HistoryBuffer

from mmcrosscl.engine import build_runner
from tests.engine import runs

WINDOWS = [
    dict(data_src='loss', log_name='loss_epoch', method_name='mean', window_size='epoch'),
    dict(data_src='acc_global', log_name='best', method_name='max', window_size='global'),
    dict(data_src='loss_p4_p4', log_name='last_4', method_name='mean', window_size=4),
    dict(data_src='loss_p3_p3', log_name='lowest', method_name='min'),
]


def cfg_of(folder, limited):
    cfg = runs.tiny_run(folder, length=4)
    cfg.log_processor.update(window_size=2, custom_cfg=WINDOWS)
    cfg.default_hooks.logger.interval = 1
    if not limited:
        cfg.default_hooks['scalar_history'] = None
    return cfg


def test_the_log_is_unchanged_and_only_its_windows_are_kept(tmp_path):
    runners = {}
    for limited in (False, True):
        folder = tmp_path / str(limited)
        runners[limited] = build_runner(cfg_of(folder, limited))
        runners[limited].train()
    logs = [runs.scalars(tmp_path / str(limited)) for limited in (False, True)]
    assert len(logs[0]) == 12 and {'loss_epoch', 'best', 'last_4', 'lowest'} <= logs[0][0].keys()
    assert logs[0] == logs[1]

    def lengths(limited):
        scalars = runners[limited].message_hub.log_scalars
        names = ('loss', 'acc_global', 'loss_p4_p4', 'loss_p3_p3', 'loss_p3_p4')
        return [len(scalars[f'train/{name}'].data[0]) for name in names]

    assert lengths(False) == [12] * 5
    # an epoch of 3 iterations, everything, 4, everything, and the window of the log
    assert lengths(True) == [3, 12, 4, 12, 2]


def test_a_long_history_of_a_checkpoint_is_limited(tmp_path):
    """Checkpoints of MMEngine and of earlier versions contain up to a million values."""
    cfg = runs.tiny_run(tmp_path, length=1)
    cfg.log_processor.window_size = 2
    runner = build_runner(cfg)
    history = HistoryBuffer([1.0] * 1000, [1] * 1000)
    runner.message_hub.log_scalars['train/loss'] = history
    runner.train()
    kept = runner.message_hub.get_scalar('train/loss')
    assert len(kept.data[0]) == 2 and kept.mean(2) == pytest.approx(kept.data[0].mean())
    assert 1.0 not in kept.data[0]
