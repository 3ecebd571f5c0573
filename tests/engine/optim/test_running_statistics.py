import pytest
from mmengine.hooks import Hook

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.engine import build_runner
from tests.engine.toys import toy, train


@pytest.mark.parametrize('priority', [40, 49, 51])
def test_an_average_of_the_buffers_stays_finite(tmp_path, priority):
    """MMDetection's EMAHook of RTMDet and YOLOX has the priority 49."""
    average = dict(type='EMAHook', update_buffers=True, momentum=0.1, priority=priority)
    cfg = toy(tmp_path, custom_hooks=[average])
    cfg.train_dataloader.dataset.bad = [9]
    train(cfg)
    checkpoint = read_checkpoint(tmp_path / 'epoch_3.pth')
    for name, value in {**checkpoint['state_dict'], **checkpoint['ema_state_dict']}.items():
        assert value.isfinite().all(), name


def test_statistics_that_a_hook_replaces_stay_finite(tmp_path):
    precise = dict(type='mmpretrain.PreciseBNHook', num_samples=8, interval=1, priority='LOW')
    cfg = toy(tmp_path, custom_hooks=[precise])
    runner = build_runner(cfg)
    dataset = runner.train_dataloader.dataset

    class Spoil(Hook):
        def before_train_epoch(self, runner):
            dataset.bad = [9] if runner.epoch == 1 else []

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            assert runner.model.norm.running_mean.isfinite().all()

    runner.register_hook(Spoil(), priority='VERY_LOW')
    runner.train()
    assert runner.optim_wrapper.skipped is not None and runner.epoch == 3
