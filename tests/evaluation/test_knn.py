import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from mmcrosscl.engine import build_runner
from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS
from tests.checkpoints.makers import crosscl
from tests.evaluation.images import write_images


@pytest.fixture(scope='module')
def cfg(tmp_path_factory):
    """Return the k-nearest-neighbor config with a ResNet-18 and a small labeled dataset."""
    folder = tmp_path_factory.mktemp('knn')
    write_images(folder / 'train', per_class=5, seed=0)
    write_images(folder / 'val', per_class=3, seed=1)
    state = crosscl().state_dict()
    torch.save({'state_dict': state}, folder / 'epoch_1.pth')
    cfg = Config.fromfile('configs/benchmarks/r50_8xb64-knn_in1k.py')
    for loader, split in ((cfg.model.bank, 'train'), (cfg.test_dataloader, 'val')):
        loader.update(num_workers=0, persistent_workers=False, batch_size=4)
        loader.dataset = dict(
            type='mmpretrain.CustomDataset',
            data_root=str(folder / split),
            pipeline=[
                dict(type='mmpretrain.LoadImageFromFile'),
                dict(type='mmpretrain.PackInputs'),
            ],
        )
    cfg.model.update(num_classes=3, k=4)
    cfg.model.backbone.depth = 18
    cfg.test_evaluator.topk = (1,)
    cfg.update(pretrained=str(folder / 'epoch_1.pth'), work_dir=str(folder / 'work'))
    cfg.launcher = 'none'
    return cfg


def test_features_of_the_checkpoint_classify_colors(cfg):
    runner = build_runner(cfg)
    metrics = runner.test()
    weights = torch.load(cfg.pretrained, weights_only=True)['state_dict']
    backbone = runner.model.backbone.state_dict()
    assert all(torch.equal(v, weights[f'backbone.{name}']) for name, v in backbone.items())
    assert metrics['accuracy/top1'] == 100


def test_votes_follow_the_formula(cfg):
    runner = build_runner(cfg)
    runner.test()
    model = runner.model
    batch = next(iter(runner.test_dataloader))
    data = model.data_preprocessor(batch, False)
    with torch.no_grad():
        samples = model.predict(data['inputs'], data['data_samples'])
        query = F.normalize(model.extract_feat(data['inputs'])[-1], dim=1)
    # the same votes, computed for one image and one neighbor at a time
    bank, labels = model.features.double(), model.labels.tolist()
    assert labels == [0] * 5 + [1] * 5 + [2] * 5
    for sample, vector in zip(samples, query.double()):
        similarity = sorted(((vector @ row).item(), label) for row, label in zip(bank, labels))
        votes = torch.zeros(3, dtype=torch.float64)
        for value, label in similarity[-4:]:
            votes[label] += np.exp(value / 0.07)
        expected = (votes / votes.sum()).float()
        torch.testing.assert_close(sample.pred_score, expected, rtol=1e-3, atol=1e-4)
        assert sample.pred_label.item() == expected.argmax()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(drop_last=True, batch_size=64), '15 images of model.bank do not fill a batch of 64;'),
        (dict(dataset=dict(indices=0)), 'model.bank has no images or cannot be built'),
        (dict(dataset=dict(data_root='{tmp}')), 'model.bank has no images .*Found 0 files'),
    ],
)
def test_an_empty_bank_is_one_sentence(cfg, tmp_path, change, message):
    bank = Config(cfg.model.bank.to_dict())
    bank.merge_from_dict(change)
    bank.dataset.data_root = bank.dataset.data_root.format(tmp=tmp_path)
    model = MODELS.build({**cfg.model, 'bank': bank, '_scope_': 'mmpretrain'})
    with pytest.raises(InputError, match=message):
        model._encode_bank()


@pytest.mark.parametrize('wrong', [dict(k=0), dict(temperature=0.0)])
def test_invalid_settings_are_an_error(cfg, wrong):
    with pytest.raises(InputError, match='expected k >= 1 and temperature > 0, but got k='):
        MODELS.build({**cfg.model, **wrong, '_scope_': 'mmpretrain'})
