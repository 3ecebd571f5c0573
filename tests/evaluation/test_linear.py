import pytest
import torch
from mmengine.config import Config

from mmcrosscl.engine import build_runner
from tests.checkpoints.makers import crosscl
from tests.evaluation.images import write_images

pytestmark = pytest.mark.slow


def test_a_linear_classifier_trains_on_frozen_features(tmp_path):
    write_images(tmp_path / 'train', per_class=4, seed=0)
    write_images(tmp_path / 'val', per_class=2, seed=1)
    state = crosscl(depth=50).state_dict()
    torch.save({'state_dict': state}, tmp_path / 'epoch_1.pth')
    cfg = Config.fromfile('configs/benchmarks/r50_8xb32-linear-steplr-100e_in1k.py')
    assert cfg.optim_wrapper.optimizer.lr == 30 and cfg.train_cfg.max_epochs == 100
    for loader, split in ((cfg.train_dataloader, 'train'), (cfg.val_dataloader, 'val')):
        loader.update(num_workers=0, persistent_workers=False, batch_size=6)
        loader.dataset.update(type='CustomDataset', data_root=str(tmp_path / split))
        loader.dataset.pop('split')
    cfg.update(pretrained=str(tmp_path / 'epoch_1.pth'), work_dir=str(tmp_path / 'work'))
    cfg.launcher = 'none'
    cfg.train_cfg.max_epochs = 1
    cfg.model.head.update(num_classes=3, topk=(1,))
    cfg.val_evaluator.topk = (1,)
    runner = build_runner(cfg)
    runner.train()
    after = runner.model.backbone.state_dict()
    # the backbone is frozen, including its batch-norm statistics
    assert all(torch.equal(value, state[f'backbone.{name}']) for name, value in after.items())
    assert runner.model.head.fc.weight.abs().max() > 0.5
