"""`mmcrosscl.pretrain` and `mmcrosscl pretrain`: from the config of a detector to its weights."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint

import mmcrosscl
from mmcrosscl import api
from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.datasets.demo import write_demo_objects
from mmcrosscl.detectors import dry_run
from mmcrosscl.engine import build_runner, load_config
from mmcrosscl.errors import InputError, Preempted, RunError
from tests.ports import free_port

RTMDET = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
SMALL = {'train_pipeline.1.scale': 64}
SHORT = dict(iters=2, batch_size=2, from_scratch=True, options=SMALL)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture(scope='module')
def rtmdet(tmp_path_factory, photos):
    """Pre-train RTMDet-tiny on photographs."""
    work_dir = tmp_path_factory.mktemp('rtmdet')
    return mmcrosscl.pretrain(RTMDET, photos, work_dir, **SHORT)


@pytest.mark.slow(20)
def test_the_checkpoint_fits_the_detector(rtmdet):
    work_dir = rtmdet.parent
    assert rtmdet.name == 'rtmdet_tiny_8xb32-300e_coco_pretrained.pth'
    assert {'pretrain_rtmdet_tiny_8xb32-300e_coco.py', 'iter_2.pth'} <= set(names(work_dir))
    trained = read_checkpoint(work_dir / 'iter_2.pth')
    plain = read_checkpoint(rtmdet)
    expected = dict(
        mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], channel_order='bgr', style=None
    )
    assert trained['meta']['input_format'] == plain['meta']['input_format'] == expected
    state = plain['state_dict']
    assert {name.partition('.')[0] for name in state} == {'backbone', 'neck'}
    for name, value in state.items():
        name = name.replace('neck.', 'neck.detector.', 1)
        assert torch.equal(value, trained['state_dict'][name])


@pytest.mark.slow(20)
def test_a_resumed_pre_training_refuses_other_settings(rtmdet, photos, tmp_path):
    changes = tmp_path / 'changes.py'
    changes.write_text('model = dict(momentum=0.01)')
    config = rtmdet.parent / 'pretrain_rtmdet_tiny_8xb32-300e_coco.py'
    for change, option, key in (
        (dict(iters=5), '--iters', 'train_cfg.max_iters'),
        (dict(iters=None, epochs=3), '--epochs', 'train_cfg.max_iters'),
        (dict(batch_size=4), '--batch-size', 'train_dataloader.batch_size'),
        (dict(terms='global'), '--terms', 'model.head.terms'),
        (dict(changes=changes), '--changes', 'model'),
        (dict(data=photos / 'astronaut'), '--data', 'train_dataloader.dataset.data_root'),
        (dict(weights=rtmdet, from_scratch=False), '--weights', 'pretrained'),
    ):
        message = f'{option} would change {key} of {config}, with which the run resumes; omit'
        arguments = {**SHORT, 'data': photos, **change, 'resume': True}
        with pytest.raises(InputError, match=re.escape(message)):
            mmcrosscl.pretrain(RTMDET, work_dir=rtmdet.parent, **arguments)
    changes.write_text('model = dict(momentum=0.001)')
    same = dict(**SHORT, changes=changes, resume=True)
    assert mmcrosscl.pretrain(RTMDET, photos, rtmdet.parent, **same) == rtmdet
    other = {**SHORT, 'iters': 5, 'options': {**SMALL, 'train_cfg.max_iters': 2}, 'resume': True}
    assert mmcrosscl.pretrain(RTMDET, photos, rtmdet.parent, **other) == rtmdet
    wider = tmp_path / Path(RTMDET).name
    wider.write_text(f"_base_ = '{RTMDET}'\nmodel = dict(neck=dict(out_channels=64))\n")
    with pytest.raises(InputError, match='the backbone or the neck of rtmdet_tiny.* differs from'):
        mmcrosscl.pretrain(wider, photos, rtmdet.parent, **SHORT, resume=True)


@pytest.mark.slow(20)
def test_a_resumed_pre_training_keeps_its_initial_weights(rtmdet, photos, tmp_path):
    begun = {**SHORT, 'from_scratch': False, 'weights': rtmdet}
    mmcrosscl.pretrain(RTMDET, photos, tmp_path / 'out', **begun)
    with pytest.raises(InputError, match='--from-scratch differs from .*, which loads initial'):
        mmcrosscl.pretrain(RTMDET, photos, tmp_path / 'out', **SHORT, resume=True)


@pytest.mark.slow(20)
def test_checkpoints_in_another_folder_are_exported(photos, tmp_path):
    options = {**SMALL, 'default_hooks.checkpoint.out_dir': str(tmp_path / 'elsewhere')}
    arguments = SHORT | dict(options=options)
    result = mmcrosscl.pretrain(RTMDET, photos, tmp_path / 'out', **arguments)
    assert result.parent == tmp_path / 'out' and 'iter_2.pth' in names(tmp_path / 'elsewhere/out')
    assert read_checkpoint(result)['state_dict']


@pytest.mark.slow(30)
def test_a_detector_is_fine_tuned_with_its_own_config(rtmdet, tmp_path):
    """As with the demo's labeled images, which the config of RTMDet is changed for by options."""
    from mmdet.registry import MODELS

    data = tmp_path / 'objects'
    write_demo_objects(data, train=4, val=2)
    classes = ('brick', 'cat', 'coffee', 'coins', 'grass', 'gravel')
    dataset = {
        'type': 'CocoDataset', 'data_root': f'{data}/', 'ann_file': 'annotations/train.json',
        'data_prefix.img': 'train/', 'metainfo': dict(classes=classes),
    }  # fmt: skip
    pipeline = [
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(64, 64)), dict(type='PackDetInputs'),
    ]  # fmt: skip
    options = {f'train_dataloader.dataset.{key}': value for key, value in dataset.items()}
    options |= {
        'pretrained': str(rtmdet),
        'train_dataloader.dataset.pipeline': pipeline,
        'train_dataloader.batch_size': 2,
        'train_dataloader.num_workers': 0,
        'model.bbox_head.num_classes': 6,
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 9,
        'model.backbone.norm_cfg.type': 'BN',
        'model.neck.norm_cfg.type': 'BN',
        'model.bbox_head.norm_cfg.type': 'BN',
        'custom_hooks': [],
        'val_dataloader': None,
        'val_evaluator': None,
        'val_cfg': None,
        'default_hooks.checkpoint.interval': 1,
    }
    cfg = load_config(RTMDET, work_dir=tmp_path / 'run', options=options)
    assert cfg.default_hooks.pretrained.type == 'mmcrosscl.PretrainedHook'
    runner = build_runner(cfg)
    runner.train()
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert re.search('random weights remain in bbox_head$', log, re.MULTILINE)
    # the same file, in a program without mmcrosscl
    model = MODELS.build(Config(dict(model=cfg.model)).model)
    load_checkpoint(model, str(rtmdet), strict=False)
    expected = read_checkpoint(rtmdet)['state_dict']
    assert all(torch.equal(model.state_dict()[name], value) for name, value in expected.items())


@pytest.mark.slow(40)
def test_two_processes(photos, tmp_path):
    result = api.pretrain(RTMDET, photos, tmp_path, gpus=2, **SHORT)
    assert result.is_file() and 'iter_2.pth' in names(tmp_path)


@pytest.mark.slow(40)
def test_two_processes_recompute_activations(photos, tmp_path):
    # some layers of the neck are used by no loss term
    options = {**SMALL, 'activation_checkpointing': ['backbone.layer1', 'backbone.layer2']}
    settings = SHORT | dict(options=options)
    result = api.pretrain(FASTER_RCNN, photos, tmp_path / 'two', gpus=2, **settings)
    assert 'find_unused_parameters = True' in next((tmp_path / 'two').glob('*.py')).read_text()
    assert read_checkpoint(result)['state_dict']
    settings['options']['optim_wrapper.accumulative_counts'] = 2
    with pytest.raises(RunError, match='processes ended with status 1'):
        api.pretrain(FASTER_RCNN, photos, tmp_path / 'accumulated', gpus=2, **settings)


@pytest.mark.parametrize('status, error', [(75, Preempted), (74, RunError)])
def test_failures_of_the_processes_are_raised(photos, tmp_path, monkeypatch, status, error):
    monkeypatch.setattr(api, 'launch', lambda arguments, processes: status)
    with pytest.raises(error) as caught:
        api.pretrain(RTMDET, photos, tmp_path, gpus=2, **SHORT)
    assert getattr(caught.value, 'exit_status', status) == status


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(detector='mmdet::no/such.py'), 'config mmdet::no/such.py cannot be read'),
        (dict(detector='no/such.py'), 'config no/such.py does not exist'),
        (dict(detector='mmdet::_base_/default_runtime.py'), 'has no `model`'),
        (dict(data='no/folder'), 'image folder .*no/folder/? does not exist'),
        (dict(data='empty'), 'contains no images'),
        (dict(iters=0), '--iters is 0; set a number of at least 1'),
        (dict(epochs=2), '--epochs and --iters are both set'),
        (dict(options={'no.such': 1}), 'unknown setting no'),
        (dict(options={'default_hooks.checkpoint': None}), 'no weights would be saved; omit'),
        (dict(options={'train_pipeline': [dict(type='X')]}), 'train_pipeline contains a dict'),
        (dict(options={'env_cfg': {}}), 'env_cfg is an empty dict'),
    ],
)
def test_bad_input_leaves_nothing_behind(photos, tmp_path, change, message):
    (tmp_path / 'empty').mkdir()
    arguments = dict(detector=RTMDET, data=photos) | SHORT | change
    if 'data' in change:
        arguments['data'] = tmp_path / change['data']
    with pytest.raises(InputError, match=message):
        api.pretrain(
            arguments.pop('detector'), arguments.pop('data'), tmp_path / 'out', **arguments
        )
    assert names(tmp_path) == ['empty']


def test_weights_that_cannot_be_downloaded_are_one_sentence(photos, tmp_path, monkeypatch):
    config = tmp_path / 'mine.py'
    url = f'http://127.0.0.1:{free_port()}/weights.pth'
    config.write_text(
        "_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'\n"
        f"model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='{url}')))\n"
    )
    expected = (
        rf'^initial weights {url} cannot be downloaded \(.*refused.*'
        r' model\.backbone\.init_cfg=None .*--from-scratch'
    )
    # before the images are indexed
    monkeypatch.setattr(api, 'UnlabeledDataset', lambda **settings: pytest.fail('too late'))
    with pytest.raises(InputError, match=expected):
        api.pretrain(config, photos, tmp_path / 'out', **SHORT | dict(from_scratch=False))
    # the weights are not needed with random weights or an option that the message proposes
    for change in (dict(from_scratch=True), dict(options={'model.backbone.init_cfg': None})):
        with pytest.raises(pytest.fail.Exception):
            api.pretrain(
                config, photos, tmp_path / 'out', **SHORT | dict(from_scratch=False) | change
            )


def test_a_missing_module_of_a_config_is_one_sentence(photos, tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text("custom_imports = dict(imports='no_such_module')\nmodel = dict(type='X')\n")
    with pytest.raises(
        InputError, match='read: Failed to import no_such_module; correct custom_imports'
    ):
        api.pretrain(config, photos, tmp_path / 'out')


FASTER_RCNN = 'configs/detection/faster-rcnn_r18_demo.py'


@pytest.mark.slow(10)
def test_pre_training_starts_from_the_weights_of_a_detector(photos, tmp_path):
    from tests.evaluation.checkpoints import write_detector

    weights = write_detector(tmp_path / 'coco.pth')
    options = {**SMALL, 'optim_wrapper.optimizer.lr': 0.0}
    settings = dict(iters=1, batch_size=2, weights=weights, options=options)
    result = mmcrosscl.pretrain(FASTER_RCNN, photos, tmp_path / 'out', **settings)
    before, after = (read_checkpoint(path)['state_dict'] for path in (weights, result))
    # batch-norm statistics change, and so do weights by weight decay only if lr is above 0
    names = [name for name in after if name.endswith('weight')]
    assert any(name.startswith('neck.') for name in names)
    assert all(torch.equal(after[name], before[name]) for name in names)
    # the keys are encoded by a copy of the same weights
    state = read_checkpoint(tmp_path / 'out/iter_1.pth')['state_dict']
    name = 'layer1.0.conv1.weight'
    assert torch.allclose(state[f'key_encoder.backbone.{name}'], before[f'backbone.{name}'])


@pytest.mark.slow(20)
def test_pre_training_starts_from_load_from_of_the_detector(photos, tmp_path, capsys):
    from tests.evaluation.checkpoints import write_detector

    weights = write_detector(tmp_path / 'coco.pth')
    config = tmp_path / 'mine.py'
    base = Path(FASTER_RCNN).resolve()
    config.write_text(f"_base_ = '{base}'\nload_from = '{weights}'\n")
    options = {**SMALL, 'optim_wrapper.optimizer.lr': 0.0}
    settings = dict(iters=1, batch_size=2, options=options)
    out = tmp_path / 'out'
    result = mmcrosscl.pretrain(config, photos, out, **settings)
    said = capsys.readouterr().out
    assert f'The backbone and the neck start from load_from of {config}, {weights}.' in said
    before, after = (read_checkpoint(path)['state_dict'] for path in (weights, result))
    for name in ('backbone.conv1.weight', 'neck.fpn_convs.0.conv.weight'):
        assert torch.equal(after[name], before[name])
    # a resumed run has its weights
    weights.unlink()
    mmcrosscl.pretrain(config, photos, out, resume=True, **settings)
    with pytest.raises(InputError, match=rf'mine\.py sets load_from to {weights}, which is not a'):
        mmcrosscl.pretrain(config, photos, tmp_path / 'other', **settings)
    assert not (tmp_path / 'other').exists()
    # the result of this pre-training, from which the same config fine-tunes
    config.write_text(f"_base_ = '{base}'\nload_from = '{tmp_path}/other/mine_pretrained.pth'\n")
    mmcrosscl.pretrain(config, photos, tmp_path / 'other', **settings)
    assert 'The backbone and the neck start from load_from' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ('terms', 'expected', 'levels', 'share'),
    [
        ('global', ['global'], 'none, the global term only', 85),
        ('within', ['global', 'p4_p4', 'p3_p3'], 'P4 .* and P3 .*', 96),
        ('crosscl', ['global', 'p4_p4', 'p3_p3', 'p4_p3', 'p3_p4'], 'P4 .* and P3 .*', 96),
    ],
)
@pytest.mark.slow(10)
def test_the_ablations_train_their_terms(
    photos, tmp_path, capsys, monkeypatch, terms, expected, levels, share
):
    runs = []
    monkeypatch.setattr(api, 'dry_run', lambda *args: runs.append(args) or dry_run(*args))
    mmcrosscl.pretrain(FASTER_RCNN, photos, tmp_path, terms=terms, **SHORT)
    cfg = Config.fromfile(tmp_path / 'pretrain_faster-rcnn_r18_demo.py')
    names = [
        'global' if term.query == 'global' else f'{term.query}_{term.key}'
        for term in cfg.model.head.terms
    ]
    assert names == expected
    out = capsys.readouterr().out
    assert re.search(f'^  levels +{levels}$', out, re.MULTILINE)
    assert re.search(f'^ +{share} %  trained', out, re.MULTILINE)
    # a second one only if other layers are trained than with the chosen levels
    assert len(runs) == (2 if terms == 'global' else 1)


@pytest.mark.slow(10)
def test_the_example_of_changes_trains_three_levels(photos, tmp_path, capsys):
    changes = tmp_path / 'p5.py'
    (example,) = re.findall(
        r'```python\n(model = dict\(\n    neck.*?)```',
        Path('docs/detectors.md').read_text(),
        re.DOTALL,
    )
    changes.write_text(example)
    mmcrosscl.pretrain(FASTER_RCNN, photos, tmp_path / 'out', changes=changes, **SHORT)
    cfg = Config.fromfile(tmp_path / 'out/pretrain_faster-rcnn_r18_demo.py')
    assert cfg.model.neck.levels == dict(p4=16, p3=8, p5=32)
    assert [(term.query, term.key) for term in cfg.model.head.terms[-2:]] == [
        ('p5', 'p4'), ('p4', 'p5'),
    ]  # fmt: skip
    out = capsys.readouterr().out
    levels = [f'P{i} (stride {2**i}, 256 channels)' for i in (5, 4, 3)]
    assert f'  levels     {levels[0]}, {levels[1]} and {levels[2]}\n' in out
    # without P5, no term reaches the convolution of its map
    assert re.search('^ +100 %  trained', out, re.MULTILINE)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(terms='cross'), "terms is 'cross'; set one of global, within, crosscl"),
        (dict(weights='absent.pth'), r'absent\.pth does not exist'),
        (dict(weights='a.pth', from_scratch=True), 'set only one of them'),
        (dict(changes='absent.py'), r'absent\.py does not exist'),
        (dict(changes='epochs.py'), 'train_cfg has no max_iters, because --changes or an option'),
        (dict(gpus=2), 'NNODES is 2, but pretrain uses one machine'),
        pytest.param(
            dict(amp=True),
            'float16 needs a GPU',
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason='float16 works on a GPU'),
        ),
    ],
)
def test_bad_starts_are_refused_before_anything_is_written(
    photos, tmp_path, monkeypatch, settings, message
):
    monkeypatch.setenv('NNODES', '2')
    if settings.get('changes') == 'epochs.py':
        loop = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1)
        (tmp_path / 'epochs.py').write_text(f'train_cfg = {loop}')
        settings = dict(changes=tmp_path / 'epochs.py')
    with pytest.raises(InputError, match=message):
        mmcrosscl.pretrain(FASTER_RCNN, photos, tmp_path / 'out', **settings)
    assert not (tmp_path / 'out').exists()
