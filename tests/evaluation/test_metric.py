import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from mmcrosscl.engine import build_runner
from mmcrosscl.errors import InputError
from mmcrosscl.evaluation import CrossStageSimilarity
from mmcrosscl.evaluation.metric import compare_levels, join_images, pool_views
from mmcrosscl.structures import paired_rois
from tests.training import tiny_config


@pytest.fixture
def cfg(tmp_path):
    """Return a config that trains for two epochs and measures the similarity after each."""
    cfg = tiny_config(tmp_path, epochs=2)
    cfg.merge_from_dict(Config.fromfile('configs/_base_/similarity.py').to_dict())
    cfg.val_dataloader.update(num_workers=0, batch_size=3)
    cfg.val_dataloader.dataset.update(
        data_root=cfg.train_dataloader.dataset.data_root, data_prefix=''
    )
    cfg.val_dataloader.dataset.pipeline[1].scale = 64
    cfg.launcher = 'none'
    return cfg


def curve(runner, name: str) -> list[float]:
    return runner.message_hub.get_scalar(f'val/similarity/{name}')._log_history.tolist()


def test_the_metric_runs_in_pre_training(cfg):
    runner = build_runner(cfg)
    runner.train()
    margins, lows, highs = (
        curve(runner, f'p3_p4_margin{which}') for which in ('', '_low', '_high')
    )
    assert len(margins) == 2
    assert all(low <= margin <= high for low, margin, high in zip(lows, margins, highs))
    for pair in ('p3_p3', 'p4_p4', 'p3_p4', 'p3_p4_one_view'):
        assert 0 <= curve(runner, f'{pair}_recall')[-1] <= 1
        assert -1 <= curve(runner, f'{pair}_same')[-1] <= 1


def test_the_metric_pools_regions_as_the_head_does(cfg):
    runner = build_runner(cfg)
    model = runner.model.eval()
    samples, vectors = [], []
    for batch in runner.build_dataloader(cfg.val_dataloader):
        data = model.data_preprocessor(batch)
        for sample in model(**data, mode='predict'):
            samples.append(sample)
            rois = torch.from_numpy(paired_rois([sample], 'query'))
            query = model.head.region_vectors(sample.query_features['p3'][None], rois, 'p3')
            rois = torch.from_numpy(paired_rois([sample], 'key'))
            key = model.head.region_vectors(sample.key_features['p4'][None], rois, 'p4')
            vectors.append((query, key))
    same = torch.cat([(query * key).sum(1) for query, key in vectors])
    metric = CrossStageSimilarity(levels=['p3', 'p4'])
    metric.process(None, [sample.to_dict() for sample in samples])
    found = metric.compute_metrics(metric.results)
    assert found['p3_p4_same'] == pytest.approx(float(same.mean()), abs=1e-5)
    assert 'p4_p3_same' not in found


@pytest.mark.slow
def test_the_figures_of_an_untrained_network_do_not_rise(cfg):
    cfg.optim_wrapper.optimizer.lr = 0.0
    cfg.train_cfg.max_epochs = 6
    runner = build_runner(cfg)
    runner.train()
    # training without updates changes only the running statistics of batch norm
    for pair in ('p3_p4', 'p3_p4_one_view'):
        assert max(map(abs, curve(runner, f'{pair}_margin'))) < 0.06
        assert max(curve(runner, f'{pair}_recall')) < 0.1


def sample(constant: bool, images: int = 6) -> list[dict]:
    return [
        dict(
            query_features=dict(p3=feature_map(constant)),
            key_features=dict(p3=feature_map(constant)),
            query_regions=boxes(),
            key_regions=boxes(),
            paired=torch.tensor([True, True, False]).numpy(),
            img_shape=(32, 32),
        )
        for _ in range(images)
    ]


def feature_map(constant: bool) -> torch.Tensor:
    noise = torch.randn(4, 4, 4)
    return torch.ones(4, 4, 4) + 1e-3 * noise if constant else noise


def boxes():
    return torch.tensor([[0.0, 0, 16, 16], [16, 16, 31, 31], [0, 0, 8, 8]]).numpy()


def test_collapse_is_recognized_and_named(capsys):
    metric = CrossStageSimilarity()
    metric.process(None, sample(constant=True))
    found = metric.compute_metrics(metric.results)
    assert found['collapsed'] == 1
    assert found['p3_p3_margin'] == pytest.approx(0, abs=1e-3)
    assert 'Collapse: the vectors of all regions are alike on p3' in capsys.readouterr().out


def test_different_regions_are_no_collapse():
    metric = CrossStageSimilarity()
    metric.process(None, sample(constant=False))
    assert metric.compute_metrics(metric.results)['collapsed'] == 0


def test_levels_of_different_widths_are_not_compared():
    features = {view: dict(p3=torch.randn(4, 8, 8), p4=torch.randn(6, 4, 4)) for view in VIEWS}
    regions = {view: torch.from_numpy(boxes()) for view in VIEWS}
    results = [dict(vectors=pool_views(features, regions, 32), boxes=regions['query'])] * 2
    pairs = compare_levels(*join_images(results))
    assert [(pair.query, pair.key) for pair in pairs] == [('p3', 'p3'), ('p4', 'p4')]


VIEWS = ('query', 'key')


def test_vectors_without_a_spatial_shape_are_omitted():
    features = {'query': {'global': torch.randn(4), 'p3': torch.randn(4, 4, 4)}}
    vectors = pool_views(features, dict(query=torch.from_numpy(boxes())), 32)
    assert list(vectors['query']) == ['p3']
    assert torch.allclose(vectors['query']['p3'].norm(dim=1), torch.ones(3))
    # a region of the upper left quarter is the mean of samples of that quarter
    quarter = F.normalize(features['query']['p3'].mean((1, 2)), dim=0)
    assert vectors['query']['p3'].shape == (3, len(quarter))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.pop('query_features'), 'expected samples with features and regions'),
        (lambda s: s.update(paired=s['paired'] & False), '0 of 6 images have a paired region'),
    ],
)
def test_invalid_samples_are_refused(change, message):
    samples = sample(constant=False)
    for each in samples:
        change(each)
    metric = CrossStageSimilarity()
    with pytest.raises(InputError, match=message):
        metric.process(None, samples)
        metric.compute_metrics(metric.results)


def test_an_unknown_level_is_refused():
    metric = CrossStageSimilarity(levels=['p3', 'p7'])
    metric.process(None, sample(constant=False))
    with pytest.raises(InputError, match='unknown level p7; the levels of the neck are p3'):
        metric.compute_metrics(metric.results)
