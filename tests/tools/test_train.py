"""The command lines, as a user calls them."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmcrosscl.datasets.demo.photos import write_demo_photos
from tests.ports import free_port

SMALL = [
    'model.queue_len=16', 'model.backbone.depth=18', 'model.neck.in_channels=[128,256,512]',
    'model.neck.hid_channels=32', 'model.neck.out_channels=16', 'randomness.seed=0',
    'train_dataloader.batch_size=4', 'train_dataloader.num_workers=1',
    'train_dataloader.dataset.pipeline.1.scale=64', 'default_hooks.logger.interval=1',
]  # fmt: skip
CONFIG = 'configs/crosscl/r50_8xb32_folder.py'


def call(*command, timeout=300):
    environment = {**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True, text=True, timeout=timeout, env=environment,
    )  # fmt: skip


def train(work_dir, photos, *arguments, options=(), config=CONFIG, launch=None):
    launch = launch or [sys.executable, 'tools/train.py', config]
    data = [f'train_dataloader.dataset.data_root={photos}'] if photos else []
    return call(
        *launch, '--work-dir', work_dir, *arguments, '--cfg-options', *SMALL, *data, *options
    )


def losses(work_dir):
    logs = sorted(Path(work_dir).glob('*/*.log'))
    return [
        (int(epoch), float(loss))
        for log in logs
        for epoch, loss in re.findall(
            r'Epoch\(train\)\s+\[(\d+)\].*? loss: ([\d.]+)', log.read_text()
        )
    ]


def test_training_shows_an_eta_and_the_terms_and_can_be_resumed(tmp_path, photos):
    # without workers, as one would to look for an error
    done = train(
        tmp_path, photos, options=['train_cfg.max_epochs=1', 'train_dataloader.num_workers=0']
    )
    assert done.returncode == 0, done.stderr
    log = next(tmp_path.glob('*/*.log')).read_text()
    for word in ('eta: ', 'loss_global: ', 'loss_p4_p3: ', 'acc_p4_p3: '):
        assert word in log
    assert (tmp_path / 'epoch_1.pth').exists()

    done = train(tmp_path, photos, '--resume', options=['train_cfg.max_epochs=2'])
    assert done.returncode == 0, done.stderr
    assert [epoch for epoch, _ in losses(tmp_path)] == [1] * 4 + [2] * 4
    assert (tmp_path / 'epoch_2.pth').exists()
    resumed = sorted(tmp_path.glob('*/*.log'))[-1].read_text()
    assert 'resumed epoch: 1, iter: 4' in resumed


def test_two_processes_train_over_gloo_with_one_view_size_for_both(tmp_path, photos, monkeypatch):
    monkeypatch.setenv('PORT', str(free_port()))
    done = train(
        tmp_path,
        photos,
        options=[
            'train_cfg.max_epochs=4',
            'train_dataloader.dataset.data_prefix=',
            'custom_hooks.0.scales=[32,64]',
            # a size of its own per rank would end in a hang or an error
            'randomness.diff_rank_seed=True',
            'randomness.seed=1',
        ],
        launch=['tools/dist_train.sh', 'configs/crosscl/r50_8xb32-multi-scale_in1k.py', 2],
    )
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path)) == 4 * 2  # 16 images over 2 × 4
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'Distributed training: True' in log and 'GPU number: 2' in log
    assert set(re.findall(r'Views are (\d+) pixels', log)) == {'32', '64'}
    assert (tmp_path / 'epoch_4.pth').exists()


def test_an_error_in_one_process_ends_all(tmp_path, monkeypatch):
    monkeypatch.setenv('PORT', str(free_port()))
    done = train(tmp_path, tmp_path / 'gone', launch=['tools/dist_train.sh', CONFIG, 2])
    assert done.returncode != 0
    assert 'gone does not exist; set data_root' in done.stderr.replace('gone/', 'gone')


def test_the_learning_rate_follows_the_batch(tmp_path, photos):
    done = train(tmp_path, photos, '--auto-scale-lr', options=['train_cfg.max_epochs=1'])
    assert done.returncode == 0, done.stderr
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'lr: 4.6875e-04' in log  # 0.03 · 4 / 256


BROKEN = {
    'few images': (
        ['train_dataloader.drop_last=True', 'train_dataloader.batch_size=99'],
        '16 images do not fill a batch of 99 on each of 1 processes',
    ),
    'launcher': (['launcher=pytorch'], 'use tools/dist_train.sh'),
    'momentum=0': (['model.momentum=0'], 'momentum is 0; it must be above 0'),
    'temperature=0': (['model.head.loss.temperature=0'], 'temperature is 0; it must be above 0'),
    'level': (["model.neck.levels=['p4','q3']"], "unknown level 'q3'"),
    'size': (['train_dataloader.dataset.pipeline.1.scale=100'], 'that is a multiple of 32'),
}


@pytest.mark.parametrize('name', BROKEN)
def test_a_bad_setting_is_one_sentence_and_a_failure(tmp_path, photos, name, monkeypatch):
    options, message = BROKEN[name]
    command = ['tools/train.py', CONFIG, '--work-dir', str(tmp_path), '--cfg-options', *SMALL]
    command += [f'train_dataloader.dataset.data_root={photos}', *options]
    monkeypatch.setattr(sys, 'argv', command)
    monkeypatch.setenv('LOCAL_RANK', '0')
    with pytest.raises(SystemExit) as caught:
        runpy.run_path('tools/train.py', run_name='__main__')
    # text as an exit code is printed to stderr, and the status is 1
    assert caught.value.code.startswith('error: ') and message in caught.value.code
    assert '\n' not in caught.value.code
    assert not list(tmp_path.glob('*.pth'))


def test_a_folder_of_broken_images_is_one_sentence_and_a_failure(tmp_path):
    (tmp_path / 'photos').mkdir()
    for i in range(4):
        (tmp_path / f'photos/{i}.jpg').write_bytes(b'text')
    done = train(tmp_path / 'work', tmp_path / 'photos')
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.fullmatch(
        r'error: \d+ images in a row cannot be read, the last one .*; check .*', last
    )


@pytest.mark.parametrize('words', [['--amp'], ['--launcher', 'slurm']])
@pytest.mark.skipif(torch.cuda.is_available(), reason='says what cannot be had without a GPU')
def test_what_needs_a_gpu_is_said(tmp_path, photos, words):
    done = train(tmp_path, photos, *words)
    assert done.returncode == 1
    assert re.search(r'^error: .* none is found', done.stderr, re.MULTILINE)


def test_a_missing_config_is_named(tmp_path):
    done = train(tmp_path, None, config='configs/none.py')
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        'error: config configs/none.py does not exist; see configs/'
    )


def test_a_config_with_an_error_is_named(tmp_path):
    (tmp_path / 'bad.py').write_text('model = dict(\n')
    done = train(tmp_path, None, config=tmp_path / 'bad.py')
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f'error: config {tmp_path}/bad.py cannot be read: SyntaxError')


@pytest.mark.parametrize('tool', ['train', 'demo', 'plot_losses'])
def test_a_wrong_version_is_one_sentence_and_a_failure(tmp_path, tool, monkeypatch):
    info = tmp_path / 'onedl_mmdetection-1.0.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(
        'Metadata-Version: 2.1\nName: onedl-mmdetection\nVersion: 1.0.0\n'
    )
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    done = call(sys.executable, f'tools/{tool}.py', 'x')
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.match('error: mmcrosscl .* needs mmdet .*, but 1.0.0 is installed; run: ', last)
    assert 'Traceback' not in done.stderr


def test_a_missing_checkpoint_is_named(tmp_path, photos):
    done = train(tmp_path, photos, '--resume', 'none.pth')
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        'error: checkpoint none.pth does not exist; name a checkpoint file'
    )


def test_launchers_say_how_they_are_used():
    for script in ('tools/dist_train.sh', 'tools/slurm_train.sh'):
        done = call(script)
        assert done.returncode == 2 and f'usage: {script} ' in done.stderr


def test_slurm_starts_a_task_per_gpu(tmp_path, monkeypatch):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.setenv('GPUS', '16')
    monkeypatch.setenv('SRUN_ARGS', '--time=1:00 --mem=0')
    done = call('tools/slurm_train.sh', 'gpu', 'job', CONFIG, 'work dir', '--resume')
    words = done.stdout.splitlines()
    assert words[:7] == [
        '--partition=gpu', '--job-name=job', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8',
        '--cpus-per-task=8', '--kill-on-bad-exit=1',
    ]  # fmt: skip
    assert words[7:10] == ['--signal=USR1@120', '--time=1:00', '--mem=0']
    assert words[-6:] == [CONFIG, '--work-dir', 'work dir', '--launcher', 'slurm', '--resume']


def test_mmdetection_configs_train_too(tmp_path):
    """A detector of MMDetection on its own kind of config, from images and boxes made here."""
    import json

    write_demo_photos(tmp_path / 'photos', count=2)
    images, annotations = [], []
    for i, path in enumerate(sorted((tmp_path / 'photos').rglob('*.jpg'))):
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
    done = call(sys.executable, 'tools/train.py', config, '--work-dir', tmp_path / 'work')
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'work/epoch_1.pth').exists()
    assert 'loss_bbox: ' in next((tmp_path / 'work').glob('*/*.log')).read_text()
