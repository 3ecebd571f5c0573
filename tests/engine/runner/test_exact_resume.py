"""A run that is interrupted and resumed equals an uninterrupted run."""

import json
import re
import signal

import pytest
from mmengine.config import Config

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.errors import EXIT_PREEMPTED
from tests.engine import runs
from tests.ports import free_port
from tests.training import validate_similarity

CASES = {
    'epochs': dict(by_epoch=True),
    'epochs, two workers': dict(by_epoch=True, workers=2),
    'iterations': dict(by_epoch=False, length=8),
    'iterations, two workers': dict(by_epoch=False, length=8, workers=2),
}


def everything_on(folder, stop_at=None, **settings) -> Config:
    """Return a config with multi-scale views, averaged weights and gradient clipping."""
    cfg = runs.tiny_run(folder, **settings)
    cfg.custom_hooks = [
        dict(type='mmcrosscl.MultiScaleHook', scales=[32, 64]),
        dict(type='EMAHook', momentum=0.1),
        dict(type='Diary', folder=str(folder), stop_at=stop_at, stop_rank=-1),
    ]
    cfg.randomness.seed = 1
    cfg.optim_wrapper.clip_grad = dict(max_norm=5)
    cfg.default_hooks.logger.interval = 1
    return cfg


def train(cfg, world, stop_rank=0):
    cfg.custom_hooks[-1].stop_rank = stop_rank
    return runs.finish(runs.start(cfg, world, free_port()))


@pytest.mark.slow
@pytest.mark.parametrize('world', [1, 2])
@pytest.mark.parametrize('name', CASES)
def test_resuming_after_any_iteration_changes_nothing(tmp_path, name, world):
    settings = CASES[name]
    # two processes use twice as many images, so that the number of iterations is the same
    settings = settings | dict(images=12 * world)
    uninterrupted, interrupted = tmp_path / 'uninterrupted', tmp_path / 'interrupted'
    assert train(everything_on(uninterrupted, **settings), world) == [0] * world
    last = sorted(uninterrupted.glob('work/*.pth'))[-1].name
    iterations = len(runs.diary(uninterrupted))
    assert iterations in (8, 9)
    (interrupted / 'photos').parent.mkdir()
    (interrupted / 'photos').symlink_to(uninterrupted / 'photos')
    for stop_at in (0, 1, 4, iterations - 1):
        cfg = everything_on(interrupted, stop_at=stop_at, **settings)
        cfg.resume = True
        assert train(cfg, world, stop_rank=world - 1) == [EXIT_PREEMPTED] * world
    cfg = everything_on(interrupted, **settings)
    cfg.resume = True
    assert train(cfg, world) == [0] * world

    for rank in range(world):
        assert runs.diary(uninterrupted, rank) == runs.diary(interrupted, rank)
        lines = (interrupted / f'diary{rank}.jsonl').read_text().splitlines()
        assert len(lines) == iterations  # no iteration runs twice
    assert {entry['size'] for entry in runs.diary(uninterrupted).values()} == {32, 64}
    assert runs.scalars(uninterrupted) == runs.scalars(interrupted)
    runs.assert_same_state(uninterrupted / 'work' / last, interrupted / 'work' / last)


def validating(folder, images, by_epoch, resume=False) -> Config:
    """Return a config that validates after every third iteration."""
    cfg = everything_on(folder, by_epoch=by_epoch, images=images, length=3 if by_epoch else 9)
    validate_similarity(cfg)
    # two ranks with 9 and 8 images, which are 3 and 2 batches
    cfg.val_dataloader.dataset.max_images = 17
    cfg.val_dataloader.sampler.round_up = False
    if not by_epoch:
        cfg.train_cfg.val_interval = 3
    cfg.default_hooks.checkpoint.update(save_best='similarity/p3_p4_margin', rule='greater')
    cfg.resume = resume
    return cfg


def validations(folder) -> list[dict]:
    """Return the metrics of all complete validations."""
    found = []
    for path in sorted(folder.glob('work/*/vis_data/scalars.json')):
        entries = map(json.loads, path.read_text().splitlines())
        found += [entry for entry in entries if 'similarity/p3_p4_margin' in entry]
    return [{k: v for k, v in entry.items() if k not in runs.TIMES} for entry in found]


@pytest.mark.slow(30)
@pytest.mark.parametrize('by_epoch, world, after', [(True, 2, 3), (False, 1, 9)])
def test_an_interrupted_validation_is_repeated(tmp_path, by_epoch, world, after):
    """The first or the last validation is interrupted. Two ranks have 3 and 2 batches."""
    uninterrupted, interrupted = tmp_path / 'uninterrupted', tmp_path / 'interrupted'
    images = 12 * world
    assert (
        runs.finish(runs.start(validating(uninterrupted, images, by_epoch), world, free_port()))
        == [0] * world
    )
    interrupted.mkdir()
    (interrupted / 'photos').symlink_to(uninterrupted / 'photos')
    cfg = validating(interrupted, images, by_epoch)
    cfg.custom_hooks += [dict(type='StopValidation', after=after, batch=0, rank=world - 1)]
    assert runs.finish(runs.start(cfg, world, free_port())) == [EXIT_PREEMPTED] * world
    assert f'during validation after iteration {after}.' in runs.log_of(interrupted)
    cfg = validating(interrupted, images, by_epoch, resume=True)
    assert runs.finish(runs.start(cfg, world, free_port())) == [0] * world
    assert len(validations(uninterrupted)) == len(validations(interrupted)) == 3
    # the second rank of a resumed run starts with the batch-norm statistics of the first one
    if world == 1:
        assert validations(uninterrupted) == validations(interrupted)
    name = 'epoch_3.pth' if by_epoch else 'iter_9.pth'
    paths = [folder / 'work' / name for folder in (uninterrupted, interrupted)]
    runs.assert_same_state(*paths, validated=False)
    assert not read_checkpoint(paths[1])['meta'].get('validating')
    assert list(interrupted.glob('work/best*.pth'))


@pytest.mark.slow(20)
@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_validation_in_which_the_process_is_killed_is_repeated_once(tmp_path, by_epoch):
    """The checkpoint was saved before the last validation. No iteration is left."""
    uninterrupted, interrupted = tmp_path / 'uninterrupted', tmp_path / 'interrupted'
    assert runs.finish(runs.start(validating(uninterrupted, 12, by_epoch))) == [0]
    interrupted.mkdir()
    (interrupted / 'photos').symlink_to(uninterrupted / 'photos')
    cfg = validating(interrupted, 12, by_epoch)
    stop = dict(type='StopValidation', after=9, batch=1, rank=0, number=int(signal.SIGKILL))
    cfg.custom_hooks += [stop]
    assert runs.finish(runs.start(cfg)) == [-signal.SIGKILL]
    assert len(validations(interrupted)) == 2
    # the second resume finds a complete run
    for _ in range(2):
        cfg = validating(interrupted, 12, by_epoch, resume=True)
        assert runs.finish(runs.start(cfg)) == [0]
        assert validations(uninterrupted) == validations(interrupted)


@pytest.mark.slow
def test_a_run_without_a_seed_resumes_with_its_random_seed(tmp_path):
    """By default, the seed is random, and the checkpoint contains the seed."""
    cfg = everything_on(tmp_path, stop_at=4)
    cfg.randomness = dict(seed=None, diff_rank_seed=True)
    assert train(cfg, 2) == [EXIT_PREEMPTED] * 2
    first = runs.diary(tmp_path)
    cfg = everything_on(tmp_path)
    cfg.randomness = dict(seed=None, diff_rank_seed=True)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'work/epoch_1.pth')
    assert train(cfg, 2) == [0] * 2
    again = runs.diary(tmp_path)
    for iteration in first:
        assert again[iteration] == first[iteration]


@pytest.mark.slow
@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_resume_on_another_number_of_processes_logs_the_changes(tmp_path, by_epoch):
    length = 3 if by_epoch else 9
    settings = dict(by_epoch=by_epoch, length=length, images=24)
    assert train(everything_on(tmp_path, stop_at=3, **settings), 1) == [EXIT_PREEMPTED]
    seen = [path for entry in runs.diary(tmp_path).values() for path in entry['paths']]
    cfg = everything_on(tmp_path, **settings)
    cfg.resume = True
    assert train(cfg, 2) == [0, 0]
    log = runs.log_of(tmp_path)
    assert re.search(
        'was saved by 1 processes with 4 images each, but this run has 2 processes with 4 images '
        'each. An iteration now uses 8 images instead of 4.* The learning rate of the checkpoint '
        'is kept',
        log,
    )
    # the resumed run starts with images that the first run has not seen
    entries = [runs.diary(tmp_path, rank) for rank in range(2)]
    first = min(entries[1])
    rest = [path for entry in entries for path in entry[first]['paths']]
    assert len(set(seen)) == 16 and not set(seen) & set(rest)
    assert (tmp_path / f'work/{"epoch_3" if by_epoch else "iter_9"}.pth').exists()
