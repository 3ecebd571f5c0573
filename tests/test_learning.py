"""Training on the demo photographs improves the losses, and an untrained network does not."""

import pytest
from mmengine.config import Config

from mmcrosscl.datasets.demo import write_demo_photos
from mmcrosscl.engine import build_runner
from mmcrosscl.visualization import read_scalars

pytestmark = pytest.mark.slow

CROSS_STAGE = ('p4_p3', 'p3_p4')
REGIONAL = ('p4_p4', 'p3_p3', *CROSS_STAGE)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'photos'
    write_demo_photos(folder)
    return folder


def run(photos, work_dir, iterations, lr):
    """Train the demo model at a quarter of its width, and return losses and accuracies.

    Each value is a pair of means over the terms: the mean of the first 10 iterations, and the mean
    of the last 40 iterations.
    """
    cfg = Config.fromfile('configs/crosscl/r18_demo.py')
    cfg.train_dataloader.dataset.data_root = str(photos)
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.custom_hooks = []
    cfg.train_dataloader.dataset.pipeline[1].scale = 64
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            model=dict(
                backbone=dict(base_channels=16, stem_channels=16),
                neck=dict(in_channels=[32, 64, 128], hid_channels=128, out_channels=64),
            ),
            train_dataloader=dict(batch_size=8),
            optim_wrapper=dict(optimizer=dict(lr=lr)),
            train_cfg=dict(max_iters=iterations),
            param_scheduler=[],
            default_hooks=dict(logger=dict(interval=10)),
            log_processor=dict(window_size=10),
        )
    )
    build_runner(cfg).train()
    scalars = read_scalars(work_dir).train

    def mean(kind, terms, window):
        return sum(s[f'{kind}_{term}'] for s in window for term in terms) / len(terms) / len(window)

    first, last = scalars[:1], scalars[-4:]
    return {
        name: (mean(kind, terms, first), mean(kind, terms, last))
        for name, kind, terms in (
            ('loss', 'loss', REGIONAL),
            ('accuracy', 'acc', REGIONAL),
            ('cross-stage accuracy', 'acc', CROSS_STAGE),
        )
    }


def test_loss_falls_and_regional_accuracy_rises(photos, tmp_path):
    measured = run(photos, tmp_path, 130, lr=0.1)
    assert measured['loss'][1] < measured['loss'][0] - 0.5
    assert measured['accuracy'][1] > measured['accuracy'][0] + 3
    assert measured['cross-stage accuracy'][1] > 8


def test_an_untrained_network_does_not_improve(photos, tmp_path):
    measured = run(photos, tmp_path, 50, lr=0.0)
    assert measured['loss'][1] == pytest.approx(measured['loss'][0], abs=0.15)
    assert measured['accuracy'][1] == pytest.approx(measured['accuracy'][0], abs=4)
    # random features match regions within a stage, but not across stages
    assert measured['cross-stage accuracy'][1] < 1
