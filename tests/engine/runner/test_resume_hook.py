"""The warning about lost seeds, and resuming from old and foreign checkpoints."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.dataset import ConcatDataset
from mmengine.registry import DATASETS

from mmcrosscl.checkpoints import read_checkpoint, write_checkpoint
from mmcrosscl.engine import build_runner
from mmcrosscl.engine.runner import resume_hook
from mmcrosscl.errors import InputError
from tests.engine import runs

WARNING = 'The random augmentation is not seeded'


@DATASETS.register_module()
class Halved(ConcatDataset):
    """A wrapper that returns each image twice and computes the index with integer arithmetic."""

    def __len__(self):
        return 2 * super().__len__()

    def __getitem__(self, idx):
        return super().__getitem__(idx // 2)


@DATASETS.register_module()
class Table(ConcatDataset):
    """A wrapper that looks up indices in a table, as torch's ``Subset`` does."""

    def __getitem__(self, idx):
        return super().__getitem__(list(range(len(self)))[idx])


@pytest.mark.parametrize('kind, warned', [('ConcatDataset', 0), ('Halved', 0), ('Table', 1)])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_wrapper_that_drops_the_seed_causes_one_warning(tmp_path, kind, warned, by_epoch):
    cfg = runs.tiny_run(tmp_path, length=2, by_epoch=by_epoch)
    cfg.train_dataloader.dataset = dict(type=kind, datasets=[cfg.train_dataloader.dataset])
    build_runner(cfg).train()
    log = runs.log_of(tmp_path)
    assert log.count(WARNING) == warned
    if warned:
        assert 'Table converts the indices of Seeded' in log and 'index.at(other_index)' in log


def test_a_sampler_without_seeds_causes_no_warning(tmp_path):
    cfg = runs.tiny_run(tmp_path, length=1)
    cfg.train_dataloader.sampler.type = 'DefaultSampler'
    build_runner(cfg).train()
    assert WARNING not in runs.log_of(tmp_path)


def test_a_checkpoint_of_an_earlier_release_resumes(tmp_path):
    """An earlier release saved the progress as a resumable value of MMEngine's message hub."""
    build_runner(runs.tiny_run(tmp_path, by_epoch=False, length=3)).train()
    path = tmp_path / 'work/iter_3.pth'
    checkpoint = read_checkpoint(path)
    hub = checkpoint['message_hub']
    progress = hub['runtime_info']['progress']
    assert len(progress.pop('images')) == 32 and progress.pop('order') == 2
    assert progress.pop('early_stopping') == []
    assert progress == dict(processes=1, batch_size=4, epoch_length=3, seed=0, position=12)
    hub['resumed_keys']['progress'] = True
    write_checkpoint(checkpoint, path)
    cfg = runs.tiny_run(tmp_path, by_epoch=False, length=6)
    cfg.resume = True
    runner = build_runner(cfg)
    runner.train()
    assert 'resumed epoch: 0, iter: 3' in runs.log_of(tmp_path)
    assert 'was not written by ResumableRunner' not in runs.log_of(tmp_path)
    assert 'by an earlier release, whose order of images differs' in runs.log_of(tmp_path)
    # the next checkpoint contains the progress of the new run, not the loaded progress
    later = read_checkpoint(tmp_path / 'work/iter_6.pth')['message_hub']['runtime_info']
    assert later['progress']['position'] == 24


@pytest.mark.parametrize('changed', [False, True])
def test_a_resume_warns_if_the_images_have_changed(tmp_path, changed):
    cfg = runs.tiny_run(tmp_path, length=1)
    build_runner(cfg).train()
    if changed:
        folder = Path(cfg.train_dataloader.dataset.data_root)
        first = min(folder.rglob('*.*'))
        first.rename(first.with_name(f'z{first.name}'))
    cfg = runs.tiny_run(tmp_path, length=2)
    cfg.resume = True
    build_runner(cfg).train()
    assert ('The images have changed since' in runs.log_of(tmp_path)) == changed


def test_processes_with_different_images_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(resume_hook, 'all_gather_object', lambda mine: [mine, ('other', 13)])
    with pytest.raises(InputError, match='process 1 found 13 images and process 0 found 12, or'):
        build_runner(runs.tiny_run(tmp_path, length=1)).train()


def test_a_checkpoint_of_another_runner_resumes_with_a_warning(tmp_path):
    build_runner(runs.tiny_run(tmp_path, length=1)).train()
    path = tmp_path / 'work/epoch_1.pth'
    checkpoint = read_checkpoint(path)
    before = copy.deepcopy(checkpoint['state_dict'])
    del checkpoint['message_hub']['runtime_info']['progress']
    write_checkpoint(checkpoint, path)
    cfg = runs.tiny_run(tmp_path, length=2)
    cfg.resume = True
    runner = build_runner(cfg)
    runner.train()
    assert 'was not written by ResumableRunner' in runs.log_of(tmp_path)
    assert not torch.equal(
        before['backbone.conv1.weight'], runner.model.state_dict()['backbone.conv1.weight']
    )


def rates(folder):
    return [row['lr'] for row in runs.scalars(folder)]


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['CosineAnnealingLR', 'LinearLR', 'MultiStepLR'])
def test_a_converted_schedule_has_the_length_of_the_new_epochs(tmp_path, kind):
    settings = dict(
        CosineAnnealingLR=dict(T_max=4, end=4),
        LinearLR=dict(start_factor=0.1, end=4),
        MultiStepLR=dict(milestones=[1, 3], end=4),
    )[kind]
    schedule = [dict(type=kind, by_epoch=True, begin=0, convert_to_iter_based=True, **settings)]

    def train(folder, batch_size, length, **changes):
        cfg = runs.tiny_run(folder, length=length)
        cfg.train_dataloader.batch_size = batch_size
        cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
        cfg.param_scheduler = schedule
        cfg.merge_from_dict(changes)
        build_runner(cfg).train()

    train(tmp_path / 'whole', 2, 4)
    train(tmp_path / 'resumed', 4, 1)
    train(tmp_path / 'resumed', 2, 4, resume=True)
    whole, resumed = (rates(tmp_path / name) for name in ('whole', 'resumed'))
    # the first epoch had 3 iterations, and all other epochs have 6
    assert len(whole) == 24 and len(resumed) == 3 + 18
    # LinearLR reaches its end one iteration early, which is another share of the schedule
    tolerance = 0.04 if kind == 'LinearLR' else 1e-6
    assert resumed[3:] == pytest.approx(whole[6:], rel=tolerance)
