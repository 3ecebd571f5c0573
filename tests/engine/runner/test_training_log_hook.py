import math

import pytest
from mmengine.hooks import Hook

from mmcrosscl.engine import build_runner
from mmcrosscl.visualization import read_scalars
from tests.training import tiny_config


class Witness(Hook):
    """Records the share of paired windows and the gradient norm of each iteration."""

    def __init__(self):
        self.norms, self.shares = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        paired = [sample.paired for sample in data_batch['data_samples']]
        self.shares.append(sum(map(sum, paired)) / sum(map(len, paired)))

    def watch(self, runner, backward):
        def watched(loss):
            backward(loss)
            grads = [p.grad for p in runner.model.parameters() if p.grad is not None]
            self.norms.append(math.sqrt(sum(float(grad.square().sum()) for grad in grads)))

        return watched


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Return the witness and the log of a run of 6 iterations that logs every second one."""
    cfg = tiny_config(tmp_path_factory.mktemp('log'), epochs=3)
    cfg.launcher = 'none'
    cfg.default_hooks.logger.interval = 2
    witness = Witness()
    runner = build_runner(cfg)
    runner.register_hook(witness)
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    wrapper.backward = witness.watch(runner, wrapper.backward)
    runner.optim_wrapper = wrapper
    runner.train()
    return witness, read_scalars(cfg.work_dir).train


def test_the_log_has_the_share_of_paired_windows_since_the_last_log(trained):
    witness, log = trained
    expected = [sum(witness.shares[i : i + 2]) / 2 for i in (0, 2, 4)]
    assert [entry['paired_share'] for entry in log] == pytest.approx(expected)


def test_the_log_has_the_mean_gradient_norm_since_the_last_log(trained):
    witness, log = trained
    expected = [sum(witness.norms[i : i + 2]) / 2 for i in (0, 2, 4)]
    assert [entry['gradient_norm'] for entry in log] == pytest.approx(expected, rel=1e-4)


def test_the_log_has_speed_and_memory(trained):
    _, log = trained
    for entry in log:
        assert entry['images_per_second'] == pytest.approx(4 / entry['time'])
        share = entry['data_time'] / entry['time']
        assert entry['data_wait'] == pytest.approx(min(share, 1))
        # a process that has imported torch takes some hundred MB
        assert 100 < entry['memory'] < 1e5
