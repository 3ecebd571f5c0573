"""`mmcrosscl demo`, shortened."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmcrosscl.datasets.demo import (
    cutouts,
    write_demo_objects,
    write_demo_photos,
    write_scenes,
)
from mmcrosscl.demo import link_latest
from tests.datasets.demo.test_scenes import needs_packages

ROOT = Path(__file__).parents[2]
DEMO = ROOT / 'configs/crosscl/r18_demo.py'
DETECTORS = ROOT / 'configs/detection'


@pytest.fixture
def short(monkeypatch, tmp_path):
    read = Config.fromfile

    def fromfile(path, shorten=True):
        cfg = read(path)
        # the report reads the published recipe
        if not shorten or not {'demo', 'scenes'} & set(re.split('[_.]', Path(path).name)):
            return cfg
        loaders = [cfg.get(f'{name}_dataloader') for name in ('train', 'val')]
        for loader in filter(None, loaders):
            loader.update(num_workers=0, persistent_workers=False)
        if 'detection' in str(path):
            cfg.merge_from_dict(dict(train_cfg=dict(max_iters=2, val_interval=2)))
            return cfg
        cfg.merge_from_dict(
            dict(
                train_cfg=dict(max_iters=4),
                train_dataloader=dict(batch_size=2),
                default_hooks=dict(logger=dict(interval=1)),
                model=dict(queue=dict(length=8)),
            )
        )
        cfg.train_dataloader.dataset.pipeline[1].scale = 64
        cfg.val_dataloader.dataset.pipeline[1].scale = 64
        return cfg

    monkeypatch.setattr(Config, 'fromfile', fromfile)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=['photographs', pytest.param('scenes', marks=needs_packages)])
def labeled(request, short, monkeypatch):
    """Write the labeled dataset of the demo, and return its config."""
    if request.param == 'scenes':
        write_scenes('data/demo_scenes', unlabeled=4, train=16, test=8)
        return DETECTORS / 'faster-rcnn_r18_scenes.py'
    monkeypatch.setattr(cutouts, 'PACKAGES', {Path('absent'): 'tuxpaint-stamps-default'})
    write_demo_objects('data/demo_objects', train=16, val=8)
    return DETECTORS / 'faster-rcnn_r18_demo.py'


@pytest.mark.slow(20)
def test_it_trains_and_tells_where_everything_is(labeled, tmp_path, command):
    data = tmp_path / "my photos, [2] 'x'"
    write_demo_photos(data, count=4)
    done = command('demo', '--data', data)
    assert done.status == 0, done.err
    said = done.out
    scenes = 'scenes' in labeled.name
    assert scenes or 'apt-get install tuxpaint-stamps-default' in said
    assert f'on {"data/demo_scenes" if scenes else "data/demo_objects"}, with' in said
    for label in ('checkpoint', 'log', 'loss curves', 'detections', 'report'):
        (line,) = [line for line in said.splitlines() if line.startswith(f'  {label}  ')]
        assert Path(line.removeprefix(f'  {label}').strip()).stat().st_size > 1000, line
    for start in ('CrossCL', 'random'):
        assert re.search(rf'^  {start} +\d+\.\d +\d+\.\d$', said, re.MULTILINE), said
    block = said.split('P3 and P4, between two views')[1]
    names = [line.split()[0] for line in block.splitlines()[2:5]]
    assert names == ['untrained', 'CrossCL', 'fine-tuned']
    block = said.split('Linear classifier')[1].split('P4\n')[1]
    assert [line.split()[0] for line in block.splitlines()[1:3]] == ['untrained', 'CrossCL']
    assert 'mkdir -p data && ln -sfn ' in said and 'r50_8xb32_folder.py' in said

    (work_dir,) = (path for path in Path('work_dirs/r18_demo').iterdir() if path.name != 'latest')
    # the detector's config starts from the checkpoint of the last demo
    pretrained = Path(Config.fromfile(labeled).pretrained)
    schedule = Config.fromfile(DEMO, shorten=False).train_cfg
    assert pretrained.name == f'iter_{schedule.max_iters}.pth'
    assert pretrained.parent.resolve() == work_dir.resolve()
    # one detector began with the checkpoint, the other one did not
    logs = {s: next(work_dir.glob(f'from_{s}/*/*.log')).read_text() for s in ('crosscl', 'random')}
    assert f'pretrained: {work_dir}/iter_4.pth, CrossCL of mmcrosscl' in logs['crosscl']
    assert 'pretrained: None, the weights are random' in logs['random']
    batches = 1 if scenes else 2
    assert all(f'Iter(val) [{batches}/{batches}]' in log for log in logs.values())

    assert command('plot', work_dir, '--out', 'again.png').out == 'again.png\n'
    assert Path('again.png').read_bytes() == (work_dir / 'losses.png').read_bytes()


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
