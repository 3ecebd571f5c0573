"""The command `mmcrosscl train`."""

import errno
import json
import os
import re
from pathlib import Path

import pytest
import torch

from mmcrosscl.cli import build_parser
from mmcrosscl.datasets.transforms import loading
from mmcrosscl.engine import load_config
from tests.training import tiny_options

CONFIG = 'configs/crosscl/r50_8xb32_folder.py'


@pytest.fixture
def train(command, tmp_path, photos):
    """Return a function that trains a tiny model. ``options`` override all other settings."""

    def train(*words, options=(), config=CONFIG, data=photos, work_dir=tmp_path):
        return command(
            'train', config, '--work-dir', work_dir, *words,
            '--cfg-options', *tiny_options(data), *options,
        )  # fmt: skip

    return train


def losses(work_dir):
    logs = sorted(Path(work_dir).glob('*/*.log'))
    return [
        (int(epoch), float(loss))
        for log in logs
        for epoch, loss in re.findall(
            r'Epoch\(train\)\s+\[(\d+)\].*? loss: ([\d.]+)', log.read_text()
        )
    ]


def test_training_logs_the_remaining_time_and_the_terms_and_can_be_resumed(train, tmp_path):
    # without workers, as users train to debug an error
    done = train(options=['train_cfg.max_epochs=1', 'train_dataloader.num_workers=0'])
    assert done.status == 0, done.err
    log = next(tmp_path.glob('*/*.log')).read_text()
    for word in ('eta: ', 'loss_global: ', 'loss_p4_p3: ', 'acc_p4_p3: '):
        assert word in log
    assert (tmp_path / 'epoch_1.pth').exists()

    done = train('--resume', options=['train_cfg.max_epochs=2'])
    assert done.status == 0, done.err
    assert [epoch for epoch, _ in losses(tmp_path)] == [1] * 4 + [2] * 4
    assert (tmp_path / 'epoch_2.pth').exists()
    resumed = sorted(tmp_path.glob('*/*.log'))[-1].read_text()
    assert 'resumed epoch: 1, iter: 4' in resumed


def test_the_learning_rate_scales_with_the_batch_size(train, tmp_path):
    done = train('--auto-scale-lr', options=['train_cfg.max_epochs=1'])
    assert done.status == 0, done.err
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'lr: 4.6875e-04' in log  # 0.03 · 4 / 256


def test_two_colons_select_a_config_of_the_installed_package(train, tmp_path):
    done = train(
        config='mmcrosscl::crosscl/r50_8xb32_folder.py', options=['train_cfg.max_epochs=1']
    )
    assert done.status == 0, done.err
    assert (tmp_path / 'epoch_1.pth').exists()


BROKEN = {
    'few images': (
        ['train_dataloader.drop_last=True', 'train_dataloader.batch_size=99'],
        '16 images do not fill a batch of 99 on each of 1 processes',
    ),
    'launcher': (['launcher=pytorch'], 'use tools/dist_train.sh'),
    'Slurm': (['launcher=slurm'], 'use tools/slurm_train.sh'),
    'momentum=0': (['model.momentum=0'], 'momentum is 0; it must be above 0'),
    'temperature=0': (['model.head.loss.temperature=0'], 'temperature is 0; it must be above 0'),
    'level': (['model.head.terms.1.query=q3'], "unknown level 'q3'"),
    'size': (['train_dataloader.dataset.pipeline.1.scale=100'], 'multiple of '),
    'key': (['train_dataloder.batch_size=2'], 'did you mean train_dataloader.batch_size?'),
    'argument': (['model.momentm=1'], 'did you mean model.momentum? To add it on purpose, write '
                 '+model.momentm=1'),
}  # fmt: skip


@pytest.mark.parametrize('name', BROKEN)
def test_an_invalid_setting_prints_one_sentence_and_fails(train, tmp_path, name):
    options, message = BROKEN[name]
    done = train(options=options)
    assert done.status == 1
    assert done.last.startswith('error: ') and message in done.last
    assert 'Traceback' not in done.err
    assert not list(tmp_path.glob('*.pth'))


def test_a_folder_of_broken_images_prints_one_sentence_and_fails(train, tmp_path):
    (tmp_path / 'photos').mkdir()
    for i in range(4):
        (tmp_path / f'photos/{i}.jpg').write_bytes(b'text')
    done = train(data=tmp_path / 'photos', work_dir=tmp_path / 'work')
    assert done.status == 1
    assert re.fullmatch(
        r'error: \d+ images in a row cannot be read, the last one .*; check .*', done.last
    )


def test_mpi_is_not_a_launcher(train):
    done = train('--launcher', 'mpi')
    assert done.status == 2 and "invalid choice: 'mpi'" in done.err


@pytest.mark.skipif(torch.cuda.is_available(), reason='tests errors of a machine without a GPU')
def test_float16_is_refused_without_a_gpu(train):
    done = train('--amp')
    assert done.status == 1
    assert re.match('error: .* but no GPU is found', done.last)


@pytest.mark.parametrize(
    'config, message',
    [
        ('configs/none.py', 'error: config configs/none.py does not exist; pass a config file, '
         'such as a file in configs/'),
        ('nopackage::a/b.py', 'error: config nopackage::a/b.py needs the package nopackage, which '
         'is not installed; install it, or pass the path of a config file'),
    ],
)  # fmt: skip
def test_a_missing_config_is_reported(train, config, message):
    done = train(config=config)
    assert done.status == 1 and done.last == message


def test_a_config_with_an_error_is_reported(train, tmp_path):
    (tmp_path / 'bad.py').write_text('model = dict(\n')
    done = train(config=tmp_path / 'bad.py')
    assert done.status == 1
    assert done.last.startswith(f'error: config {tmp_path}/bad.py cannot be read: SyntaxError')


@pytest.mark.parametrize(
    'words',
    [
        ['--resume', '--gpus', '2', 'mine.py'],
        ['--cfg-options', 'a=1', '--gpus=2', 'mine.py'],
        ['mine.py', '--gpus', '2', '--amp'],
    ],
)
def test_the_processes_get_the_same_arguments(command, monkeypatch, words):
    launched = []
    monkeypatch.setattr('mmcrosscl.launch.launch', lambda *call: launched.append(call) or 0)
    assert command('train', *words).status == 0
    ((arguments, processes),) = launched
    parser = build_parser()
    expected, found = (vars(parser.parse_args(['train', *each])) for each in (words, arguments))
    assert processes == expected.pop('gpus') == 2 and found.pop('gpus') is None
    assert found == expected | dict(launcher='pytorch')


@pytest.mark.parametrize(
    'missing, words, message',
    [
        ('model', [], 'has no model; pass a config that defines a training, or run a test with'),
        ('train_cfg', [], 'has no train_cfg; pass a config'),
        ('optim_wrapper', ['--amp'], '--amp needs optim_wrapper, which '),
    ],
)
def test_a_config_without_a_training_is_refused(command, tmp_path, missing, words, message):
    cfg = load_config(CONFIG)
    cfg.pop(missing)
    cfg.dump(tmp_path / 'mine.py')
    done = command('train', tmp_path / 'mine.py', '--work-dir', tmp_path / 'out', *words)
    assert done.status == 1 and done.last.startswith('error: ') and message in done.last
    assert not (tmp_path / 'out').exists()


def test_a_missing_checkpoint_is_reported(train):
    done = train('--resume', 'none.pth')
    assert done.status == 1
    assert done.last == 'error: checkpoint none.pth does not exist; name a checkpoint file'


def test_an_option_without_a_value_is_a_usage_error(command):
    done = command('train', CONFIG, '--cfg-options', 'model.momentum')
    assert done.status == 2
    assert done.last.endswith("--cfg-options: expected KEY=VALUE, but got 'model.momentum'")


def test_a_dead_worker_prints_one_sentence_and_exits_with_status_74(train, tmp_path):
    (tmp_path / 'mine.py').write_text(
        f"_base_ = '{Path.cwd()}/{CONFIG}'\n"
        "custom_imports = dict(imports=['tests.engine.runs'])\n"
        "custom_hooks = [dict(type='KillWorker')]\n"
    )
    done = train(
        config=tmp_path / 'mine.py',
        options=['train_cfg.max_epochs=200', 'train_dataloader.num_workers=2'],
        work_dir=tmp_path / 'work',
    )
    assert done.status == 74
    assert re.match('error: data loading failed.*rerun with --resume$', done.last)
    assert 'Traceback' not in done.err


def test_a_failure_of_the_storage_in_a_worker_prints_one_sentence_and_exits_with_status_74(
    train, tmp_path, monkeypatch
):
    read = loading.fileio.get

    def get(path, **settings):
        if path.endswith('.jpg'):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return read(path, **settings)

    # workers are forks of this process
    monkeypatch.setattr(loading.fileio, 'get', get)
    monkeypatch.setattr(loading, 'PAUSES', (0, 0))
    done = train(options=['train_dataloader.num_workers=2'])
    assert done.status == 74
    assert re.fullmatch(
        r'error: cannot read \S+\.jpg: Stale file handle \(3 attempts\); .*', done.last
    )
    assert 'Traceback' not in done.err
    assert not (tmp_path / 'broken_images.txt').exists()


def test_mmdetection_configs_train_too(command, tmp_path, photos):
    """A detector trains with a config of MMDetection on generated images and boxes."""
    images, annotations = [], []
    for i, path in enumerate(sorted(photos.rglob('*.jpg'))[:2]):
        images.append(dict(id=i, file_name=str(path), width=160, height=160))
        annotations.append(
            dict(id=i, image_id=i, category_id=1, bbox=[20, 20, 60, 60], area=3600, iscrowd=0)
        )
    (tmp_path / 'labels.json').write_text(
        json.dumps(
            dict(images=images, annotations=annotations, categories=[dict(id=1, name='thing')])
        )
    )
    config = tmp_path / 'detector.py'
    config.write_text(f"""
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', 'mmdet::_base_/default_runtime.py']
model = dict(
    backbone=dict(depth=18, init_cfg=None, norm_eval=False, frozen_stages=-1),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=16),
    bbox_head=dict(num_classes=1, in_channels=16, feat_channels=16),
)
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CocoDataset', ann_file='{tmp_path}/labels.json',
                 metainfo=dict(classes=('thing',)), data_prefix=dict(img=''),
                 pipeline=[dict(type='LoadImageFromFile'),
                           dict(type='LoadAnnotations', with_bbox=True),
                           dict(type='Resize', scale=(64, 64), keep_ratio=False),
                           dict(type='PackDetInputs')]))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.001))
default_hooks = dict(logger=dict(interval=1))
""")
    done = command('train', config, '--work-dir', tmp_path / 'work')
    assert done.status == 0, done.err
    assert (tmp_path / 'work/epoch_1.pth').exists()
    assert 'loss_bbox: ' in next((tmp_path / 'work').glob('*/*.log')).read_text()


def test_a_dataset_that_is_smaller_than_a_batch_causes_a_warning(train, photos, tmp_path):
    """An iteration-based run repeats images within the batch."""
    options = [
        f'val_dataloader.dataset.data_root={photos}', 'val_dataloader.num_workers=0',
        'train_cfg.max_iters=1', 'default_hooks.checkpoint.interval=1',
        'train_dataloader.batch_size=17',
    ]  # fmt: skip
    done = train(config='configs/crosscl/r18_demo.py', options=options)
    assert done.status == 0, done.err
    assert (
        'WARNING: The dataset has 16 images, but each iteration uses 17. Images therefore repeat '
        'within an iteration'
    ) in done.out
    options[-1] = 'train_dataloader.batch_size=16'
    done = train(config='configs/crosscl/r18_demo.py', options=options)
    assert done.status == 0 and 'The dataset has' not in done.out
