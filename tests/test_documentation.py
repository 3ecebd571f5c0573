"""The examples of the documentation run."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import VISBACKENDS

from mmcrosscl.datasets.transforms import LoadImage
from mmcrosscl.engine import BFloat16OptimWrapper, SimilarityMapHook, build_runner, load_config
from mmcrosscl.evaluation import CrossStageSimilarity
from mmcrosscl.registry import HOOKS, METRICS, MODELS, OPTIM_WRAPPERS, TRANSFORMS
from mmcrosscl.studies import read_results_file
from mmcrosscl.studies.publish import format_mean
from mmcrosscl.studies.statistics import Mean
from mmcrosscl.visualization.scalars import read_scalars
from tests.engine.runs import tiny_run
from tests.models.builders import make_batch, model_config

PAGES = sorted(map(str, [*Path().glob('*.md'), *Path('docs').glob('*.md')]))


def blocks(path: str, start: str = '') -> list[str]:
    """Return the Python blocks of a document after a text."""
    text = Path(path).read_text()
    return re.findall(r'```python\n(.*?)```', text[text.index(start) :], re.DOTALL)


@pytest.fixture(scope='module')
def extending():
    """The classes and the settings in docs/extending.md."""
    namespace, settings = {}, []
    for block in blocks('docs/extending.md'):
        if 'import' in block and 'custom_imports' not in block or 'class ' in block:
            exec(block, namespace)
        else:
            settings.append(block)
    yield settings
    for name in ('HardNegativeLoss', 'PairCountHead', 'HalfQueue'):
        del ROOT_MODELS.module_dict[name]


def test_all_examples_of_a_model_train_together(extending, tmp_path):
    cfg = tiny_run(tmp_path, length=2)
    merged = [block for block in extending if block.startswith('model = ')]
    assert len(merged) == 3
    for block in merged:
        cfg.merge_from_dict(Config.fromstring(block, '.py').to_dict())
    # only the published length is too large for a test
    cfg.model.queue.length = 20
    runner = build_runner(cfg)
    runner.train()
    assert type(runner.model.head).__name__ == 'PairCountHead'
    assert runner.model.queue.keys.dtype == torch.float16
    last = read_scalars(cfg.work_dir).train[-1]
    assert 0 <= last['pairs'] <= 4
    terms = [name for name in last if name.startswith('loss_')]
    assert len(terms) == 5 and last['loss'] == pytest.approx(sum(last[name] for name in terms))


def test_a_loss_is_called_once_for_all_terms_with_the_same_negatives(extending):
    shapes = []

    class Recorder(torch.nn.Module):
        def forward(self, query, positive, negatives):
            shapes.append((query.shape, positive.shape, negatives.shape))
            return query.sum(dim=(1, 2)), query.detach().sum(dim=(1, 2))

    model = MODELS.build(model_config())
    model.head.loss_module = Recorder()
    views, samples = make_batch(images=2)
    losses = model.loss(views, samples)
    pairs = sum(int(sample.paired.sum()) for sample in samples)
    queries = [tuple(query) for query, *_ in shapes]
    # global; two regional terms with P4's cells, two with P3's
    assert queries == [(1, 2, 128), (2, pairs, 256), (2, pairs, 256)]
    assert all(query == positive for query, positive, _ in shapes)
    assert shapes[0][2] == (64, 128)
    assert len([name for name in losses if name.startswith('acc_')]) == 5


def test_the_example_of_a_file_backend_is_a_setting(extending, photos):
    (block,) = [block for block in extending if 'backend_args' in block]
    (settings,) = Config.fromstring(block, '.py').train_pipeline
    settings.pop('type')
    path = str(next(photos.rglob('*.jpg')))
    assert LoadImage(**settings).transform(dict(img_path=path))['img'].shape[2] == 3


def test_the_examples_of_the_similarity_are_configs(tmp_path):
    first, second = blocks('docs/similarity.md')
    (tmp_path / 'my.py').write_text(first + second)
    cfg = load_config(tmp_path / 'my.py')
    assert cfg.val_dataloader.dataset.data_root == 'data/photos/'
    assert cfg.train_cfg.max_epochs == 200 and cfg.val_cfg.type == 'ValLoop'
    assert METRICS.get(cfg.val_evaluator.type) is CrossStageSimilarity
    assert HOOKS.get(cfg.custom_hooks[0].type) is SimilarityMapHook
    for backend in cfg.visualizer.vis_backends:
        assert VISBACKENDS.get(backend.type) is not None


def test_the_documentation_lists_every_config():
    pages = ' '.join(Path(page).read_text() for page in PAGES)
    configs = [path for path in Path('configs').glob('*/*.py') if path.parent.name != '_base_']
    assert len(configs) > 20
    for path in configs:
        assert re.search(rf'(?<![\w-]){re.escape(path.name)}', pages), f'no page names {path}'


def losses_of_example(block, folder):
    """Return the losses of a config that inherits from the published one."""
    path = folder / 'mine.py'
    path.write_text(block.replace('./', f'{Path.cwd()}/configs/crosscl/'))
    cfg = load_config(path)
    cfg.model.queue.length = 8
    return MODELS.build(cfg.model).loss(*make_batch(96, 2)), cfg


def test_the_example_of_a_backbone_trains(tmp_path):
    (block,) = blocks('docs/configs.md', '## Another backbone')
    losses, cfg = losses_of_example(block, tmp_path)
    assert cfg.find_unused_parameters
    assert all(torch.isfinite(value) for value in losses.values())


def test_the_examples_of_terms_train(tmp_path):
    within, across = blocks('docs/configs.md')[:2]
    small = "\nmodel['backbone'] = dict(depth=18)\nmodel.setdefault('neck', {})['in_channels'] = "
    names = []
    for block in (within, across):
        losses, _ = losses_of_example(f'{block}{small}[128, 256, 512]\n', tmp_path)
        assert all(torch.isfinite(value) for value in losses.values())
        names.append({name for name in losses if name.startswith('loss')})
    assert names[0] == {'loss_global', 'loss_p4_p4', 'loss_p3_p3'}
    assert names[1] == names[0] | {'loss_p4_p3', 'loss_p3_p4', 'loss_p5_p4', 'loss_p4_p5'}


def test_the_settings_of_the_evidence_change_a_pre_training_config():
    cfg = Config.fromfile('configs/crosscl/r50_8xb32_folder.py')
    cfg.merge_from_dict(Config.fromfile('docs/evidence/short.py').to_dict())
    pipeline = [TRANSFORMS.build(step) for step in cfg.train_dataloader.dataset.pipeline]
    assert cfg.model.momentum == 0.01 and pipeline[1].scale == 96
    assert pipeline[2].sigma_range == (0.1, 1.0) and cfg.param_scheduler[1].end == 300
    cfg = Config.fromfile('configs/crosscl/r50_8xb32_folder.py')
    cfg.merge_from_dict(Config.fromfile('docs/evidence/momentum.py').to_dict())
    assert cfg.model.momentum == 0.01 and cfg.model.backbone.depth == 50
    assert OPTIM_WRAPPERS.get(cfg.optim_wrapper.type) is BFloat16OptimWrapper
    cfg = Config.fromfile('configs/crosscl/r50_8xb32_folder.py')
    cfg.merge_from_dict(Config.fromfile('docs/evidence/queue.py').to_dict())
    assert cfg.model.queue.length == 512 and cfg.model.queue.type == 'mmcrosscl.KeyQueue'
    assert OPTIM_WRAPPERS.get(cfg.optim_wrapper.type) is BFloat16OptimWrapper


@pytest.mark.parametrize(
    'name',
    [
        'sensor',
        'sensor50',
        'sensor-twice',
        'sensor-four',
        'sensor-random',
        'sensor-long',
        'sensor-detector',
        'demo',
        'demo-rates',
        'photos',
        'r18',
        'r18-long',
        'r18-pretrainings',
        'queue',
    ],
)
def test_the_tables_of_the_evidence_are_those_of_its_results_files(name):
    results = read_results_file(f'docs/evidence/{name}.json')
    page = Path('docs/evidence.md').read_text()
    for _, arm, ap, ap50, _, _ in results.rows():
        assert f'| {format_mean(ap)} | {format_mean(ap50)} |' in page, arm
    signed = page.replace('−', '-')
    for each in results.differences():
        value, low, high = each.mean
        # the page may compare a pair in the other order
        forms = [Mean(value, low, high), Mean(-value, -high, -low)]
        texts = [format_mean(form, '+') for form in forms]
        assert any(text in signed for text in texts), (each.first, each.second, texts)


def test_the_results_of_the_model_index_are_those_of_the_readme():
    results = []
    for path in Path('configs').glob('*/metafile.yml'):
        for model in yaml.safe_load(path.read_text())['Models']:
            results += [(model['Name'], result['Metrics']) for result in model['Results'] or ()]
    ((name, metrics),) = results
    assert name == 'faster-rcnn_efficientnet-lite0_scenes'
    row = '| CrossCL, continued from them | {box AP} | {box AP50} |'.format(**metrics)
    assert row in Path('README.md').read_text()


def test_the_example_of_a_study_changes_a_pre_training_config():
    (block,) = blocks('docs/study.md')
    cfg = Config.fromfile('configs/crosscl/r50_8xb32_folder.py')
    cfg.merge_from_dict(Config.fromstring(block, '.py').to_dict())
    assert cfg.model.momentum == 0.01 and cfg.model.backbone.depth == 50
    pipeline = [TRANSFORMS.build(step) for step in cfg.train_dataloader.dataset.pipeline]
    assert [type(step).__name__ for step in pipeline][1:3] == ['TwoCrops', 'RandomGaussianBlur']
    assert pipeline[1].scale == 160


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r'```.*?```', '', Path(page).read_text(), flags=re.DOTALL)
    for link in re.findall(r'\]\(([^)\s]+)\)', text):
        if '://' in link:
            continue
        path, _, anchor = link.partition('#')
        target = Path(page).parent / path if path else Path(page)
        assert target.is_file(), f'{page}: {link}'
        if anchor:
            assert anchor in headings(target), f'{page}: {link}'


def headings(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub forms them."""
    titles = re.findall(r'^#+ (.*)', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles}
