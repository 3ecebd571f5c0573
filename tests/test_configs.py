"""Pre-training configs build, match the published recipes, and are equal in both config styles."""

import re
from ast import literal_eval
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from mmengine import registry as registries
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, MODELS, Registry, init_default_scope

from mmcrosscl.datasets.demo import write_demo_photos
from mmcrosscl.engine import build_runner
from tests.training import merge_tiny, tiny_config

ENTRIES = sorted(Path('configs/crosscl').glob('*.py'))
ALL = sorted(Path('configs').glob('[!_]*/*.py'))
ROOTS = [item for item in vars(registries).values() if isinstance(item, Registry)]
PURE = Path('mmcrosscl/configs/crosscl')


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'photos'
    write_demo_photos(folder, count=4)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('path', ENTRIES, ids=lambda path: path.stem)
def test_every_entry_config_builds_a_dataset_and_a_model(path, photos):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    cfg.train_dataloader.dataset.update(data_root=str(photos), data_prefix='')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sample = dataset[0]
    size = 96 if 'demo' in path.stem else 224
    assert [tuple(view.shape) for view in sample['inputs']] == [(size, size, 3)] * 2
    assert sample['data_samples'].query_regions.shape == (36, 4)
    assert build_model(repr(cfg.model)).queue.keys.shape == (cfg.model.queue.length, 128)


@cache
def build_model(settings):
    """Build a model from the text of its settings, once for all configs that share the settings."""
    return MODELS.build(ConfigDict(literal_eval(settings)))


def schedule(name):
    cfg = Config.fromfile(f'configs/crosscl/{name}.py')
    (cosine,) = cfg.param_scheduler
    assert cosine.type == 'CosineAnnealingLR' and cosine.by_epoch
    assert cosine.T_max == cosine.end == cfg.train_cfg.max_epochs and cosine.begin == 0
    assert cosine.get('eta_min', 0) == 0
    optimizer = dict(cfg.optim_wrapper.optimizer)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 256
    assert {k: optimizer[k] for k in ('type', 'momentum', 'weight_decay')} == dict(
        type='SGD', momentum=0.9, weight_decay=1e-4
    )
    return cfg.train_cfg.max_epochs, optimizer['lr']


def test_schedules_are_the_published_ones():
    assert schedule('r50_8xb32') == (200, 0.03)
    assert schedule('r50_8xb32-400e_in1k') == (400, 0.03)
    assert schedule('r50_8xb32-800e_coco') == (800, 0.3)
    assert schedule('r50_8xb32-multi-scale_in1k') == (200, 0.03)


def test_the_model_is_the_published_one():
    model = build_model(repr(Config.fromfile('configs/crosscl/r50_8xb32.py').model))
    terms = [(t.query, t.key, t.negatives, t.weight) for t in model.head.terms]
    assert terms == [
        ('global', 'global', 'queue', 1.0),
        ('p4', 'p4', 'all_ranks', 1.0),
        ('p3', 'p3', 'own_rank', 1.0),
        ('p4', 'p3', 'own_rank', 1.0),
        ('p3', 'p4', 'all_ranks', 1.0),
    ]
    assert model.head.loss_module.temperature == 0.2
    assert model.queue.keys.shape == (65536, 128)
    assert model.backbone.layer2[0].conv2.stride == (2, 2)  # the 3×3 convolution, not the 1×1
    assert not any(hasattr(m, 'bn') for m in model.neck.lateral_convs.values())
    with_norm = Config.fromfile('configs/crosscl/r50-fpn-bn_8xb32_in1k.py')
    with_norm = build_model(repr(with_norm.model))
    assert all(hasattr(m, 'bn') for m in with_norm.neck.lateral_convs.values())


def test_the_pipeline_has_the_published_order():
    pipeline = Config.fromfile('configs/crosscl/r50_8xb32.py').train_pipeline
    assert [step.type.rpartition('.')[2] for step in pipeline] == [
        'LoadImage', 'TwoCrops', 'RandomGaussianBlur', 'RandomColorJitter', 'RandomGrayscale',
        'RegionPairs', 'PackViews',
    ]  # fmt: skip


def test_the_fast_config_has_photometric_operations_on_the_device_and_bfloat16(tmp_path):
    cfg = tiny_config(tmp_path, workers=1, config='configs/crosscl/r50_8xb32-fast_in1k.py')
    runner = build_runner(cfg)
    seen = []
    loss = runner.model.loss

    def spy(inputs, data_samples):
        plans = [plan for sample in data_samples for plan in sample.photometric]
        names = {name for plan in plans for name, _ in plan}
        seen.append(
            (
                len(plans),
                names,
                inputs[0].dtype,
                torch.eye(1).mm(torch.eye(1)).dtype == torch.bfloat16,
            )
        )
        return loss(inputs, data_samples)

    runner.model.loss = spy
    runner.train()
    assert [(count, dtype, autocast) for count, _, dtype, autocast in seen] == [
        (8, torch.float32, True)
    ] * 2
    assert set().union(*(names for _, names, *_ in seen)) >= {'blur', 'hue', 'contrast'}
    assert type(runner.optim_wrapper).__name__ == 'BFloat16OptimWrapper'


WORDS = r'[a-z0-9]+(-[a-z0-9]+)*'


@pytest.mark.parametrize('path', sorted(Path('configs').rglob('*.py')), ids=lambda path: path.stem)
def test_names_follow_the_rule_of_the_metafiles(path):
    assert re.fullmatch(f'{WORDS}(_{WORDS})*', path.stem)
    if path.parts[1] == '_base_':
        return
    cfg = Config.fromfile(path)
    check_metadata(path, cfg)
    if resnet := re.search(r'(^|_)r(\d+)(?=[-_])', path.stem):
        assert int(resnet[2]) == cfg.model.backbone.depth
    else:
        assert not cfg.model.backbone.type.endswith('ResNet')
    if path.stem.endswith(('demo', 'scenes')):
        return
    if path.parts[1] == 'detection':
        assert re.fullmatch(rf'{WORDS}_r50(_{WORDS})*_({WORDS})_(coco|voc0712)', path.stem)
        assert cfg.train_dataloader.dataset.type != 'CocoDataset' or path.stem.endswith('_coco')
        return
    # the name of r50_8xb32 omits the dataset
    rule = rf'{WORDS}_8xb(?P<batch>\d+)(-{WORDS})?(_(in1k|coco|folder))?'
    fields = re.fullmatch(rule, path.stem)
    loader = cfg.train_dataloader or cfg.test_dataloader
    assert int(fields['batch']) == loader.batch_size
    if epochs := re.search(r'-(\d+)e_', path.stem):
        assert int(epochs[1]) == cfg.train_cfg.max_epochs


def check_metadata(path: Path, cfg: Config) -> None:
    """Check that the model index has the schedule and the batch size of a config."""
    models = yaml.safe_load(path.with_name('metafile.yml').read_text())['Models']
    (metadata,) = (model['Metadata'] for model in models if model['Config'] == str(path))
    schedule = cfg.get('train_cfg') or {}
    assert metadata.get('Epochs') == schedule.get('max_epochs')
    assert metadata.get('Iterations') == schedule.get('max_iters')
    gpus = 1 if path.stem.endswith(('demo', 'scenes')) else 8
    loader = cfg.train_dataloader or cfg.test_dataloader
    assert metadata['Batch Size'] == gpus * loader.batch_size


def test_every_text_config_has_a_module_with_its_name():
    modules = [path.stem for path in PURE.glob('[!_]*.py')]
    assert sorted(modules) == sorted(path.stem.replace('-', '_') for path in ENTRIES)


def read_both(path):
    return Config.fromfile(path), Config.fromfile(PURE / f'{path.stem.replace("-", "_")}.py')


@pytest.mark.parametrize('path', ENTRIES, ids=lambda path: path.stem)
def test_both_styles_have_the_same_settings(path):
    text, pure = read_both(path)
    assert text.to_dict() == pure.to_dict()
    assert text.pretty_text == pure.pretty_text


def found(kind, scope):
    """Return the components of all registries that a ``type`` can name in a scope."""
    components = []
    for root in ROOTS:
        with root.switch_scope_and_registry(scope) as registry:
            components.append(registry.get(kind))
    return components


def differing(settings, inherited, scope, inherited_scope):
    """Return the types that name other components in an inherited config."""
    if isinstance(settings, list | tuple):
        pairs = zip(settings, inherited, strict=True)
        return [name for pair in pairs for name in differing(*pair, scope, inherited_scope)]
    if not isinstance(settings, dict):
        return []
    scopes = settings.get('_scope_', scope), inherited.get('_scope_', inherited_scope)
    pairs = ((settings[key], inherited[key]) for key in settings)
    names = [name for pair in pairs for name in differing(*pair, *scopes)]
    kind = settings.get('type')
    if isinstance(kind, str) and found(kind, scopes[0]) != found(inherited.type, scopes[1]):
        names.append(kind)
    return names


@pytest.mark.slow
@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_a_project_that_inherits_from_the_package_has_the_same_components(path, tmp_path):
    """MMEngine looks up the types of an inherited config in the scope of its package."""
    mine = tmp_path / 'mine.py'
    mine.write_text(f"_base_ = 'mmcrosscl::{path.relative_to('configs')}'\n")
    cfg, inherited = Config.fromfile(path), Config.fromfile(mine)
    scopes = [cfg.default_scope] * 2
    assert differing(cfg._cfg_dict, inherited._cfg_dict, *scopes) == []


def plain(component):
    """Return a component's type and those settings that can be compared by value."""
    types = (bool, int, float, str, list, tuple, type(None))
    return type(component), {k: v for k, v in vars(component).items() if isinstance(v, types)}


def describe(cfg, photos, work_dir):
    """Build all components of a config at a small size, and return their types and settings."""
    merge_tiny(cfg)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.batch_size //= 8
    cfg.train_dataloader.dataset.update(data_root=str(photos), data_prefix='')
    cfg.work_dir = str(work_dir)
    runner = build_runner(cfg)
    loop, loader = runner.train_loop, runner.train_dataloader
    optimizer = runner.build_optim_wrapper(runner.optim_wrapper)
    return dict(
        runner=type(runner),
        model=(repr(runner.model), {k: v.shape for k, v in runner.model.state_dict().items()}),
        loop=(type(loop), loop.max_epochs, loop.max_iters, loader.batch_size, loader.drop_last),
        pipeline=[plain(step) for step in loader.dataset.pipeline.transforms],
        sampler=(type(loader.sampler), loader.collate_fn.func),
        optimizer=(type(optimizer), repr(optimizer.optimizer)),
        hooks=[plain(hook) for hook in runner.hooks],
    )


@pytest.mark.slow
@pytest.mark.parametrize('path', ENTRIES, ids=lambda path: path.stem)
def test_both_styles_build_the_same_components(path, photos, tmp_path):
    text, pure = (describe(cfg, photos, tmp_path) for cfg in read_both(path))
    assert text == pure


def test_a_changed_setting_changes_the_built_components(photos, tmp_path):
    """Otherwise, the comparison of both styles would not detect a difference."""
    text, pure = read_both(Path('configs/crosscl/r50_8xb32.py'))
    pure.model.momentum = 0.5
    pure.train_pipeline[1].scale = 32
    pure.train_dataloader.dataset.pipeline[1].scale = 32
    pure.train_cfg.max_epochs = 3
    pure.optim_wrapper.optimizer.lr = 1.0
    pure.custom_hooks = [dict(type='mmcrosscl.MultiScaleHook', scales=[32])]
    pure.model.neck.norm_cfg = dict(type='BN')
    text, pure = (describe(cfg, photos, tmp_path) for cfg in (text, pure))
    changed = {name for name in text if text[name] != pure[name]}
    assert changed == {'model', 'loop', 'pipeline', 'optimizer', 'hooks'}


MINE = """
from mmengine.config import read_base
from mmcrosscl.models import CrossCL

with read_base():
    from mmcrosscl.configs.crosscl.r50_8xb32 import *

model.update(type=CrossCL, queue=dict(length=8))
model.backbone.update(depth=18)
train_pipeline[1].update(scale=64)
train_dataloader.dataset.update(pipeline=train_pipeline)
"""


def test_a_pure_python_config_overrides_its_base_and_is_dumped(tmp_path):
    (tmp_path / 'mine.py').write_text(MINE)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    base = Config.fromfile('configs/crosscl/r50_8xb32.py')
    assert cfg.to_dict().keys() == base.to_dict().keys()
    assert cfg.model.type.__name__ == 'CrossCL' and cfg.model.momentum == 0.001
    assert cfg.train_dataloader.dataset.pipeline[1].scale == 64
    cfg.dump(tmp_path / 'dumped.py')
    dumped = Config.fromfile(tmp_path / 'dumped.py')
    assert dumped.to_dict() == cfg.to_dict()
    assert dumped.model.type == 'mmcrosscl.models.CrossCL' and dumped.model.backbone.depth == 18
    # the base config is unchanged
    assert Config.fromfile(PURE / 'r50_8xb32.py').to_dict() == base.to_dict()
