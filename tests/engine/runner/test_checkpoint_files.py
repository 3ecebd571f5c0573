import errno
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger

from mmcrosscl.checkpoints import read_checkpoint, reading
from mmcrosscl.engine import build_runner, load_config
from mmcrosscl.engine.runner.checkpoint_files import newest_intact
from mmcrosscl.errors import InputError
from tests.engine import runs


def test_a_run_without_a_checkpoint_to_resume_from_starts_from_load_from(tmp_path):
    build_runner(runs.tiny_run(tmp_path / 'first', length=1)).train()
    begin = Path(tmp_path / 'first/work/epoch_1.pth')
    config = tmp_path / 'config.py'
    cfg = runs.tiny_run(tmp_path / 'second', length=1)
    cfg.load_from = str(begin)
    cfg.optim_wrapper.optimizer.lr = 0.0
    cfg.dump(config)
    runner = build_runner(load_config(config, resume=True))
    runner.train()
    assert f'Training starts from the weights of {begin}.' in runs.log_of(tmp_path / 'second')
    name = 'backbone.conv1.weight'
    state = read_checkpoint(begin)['state_dict']
    assert torch.equal(runner.model.state_dict()[name], state[name])
    # later, the run resumes
    runner = build_runner(load_config(config, resume=True, options={'train_cfg.max_epochs': 2}))
    runner.train()
    assert runner.epoch == 2


@pytest.mark.parametrize('out_dir', ['{work}', '{work}/', '{work}/.', 'work', './work'])
def test_a_run_resumes_from_the_folder_of_its_checkpoints_however_it_is_spelled(
    tmp_path, monkeypatch, out_dir
):
    """MMEngine saves to ``work``, or to ``work/work`` if ``out_dir`` is another text."""
    for length in (1, 2):
        cfg = runs.tiny_run(tmp_path, length=length)
        cfg.default_hooks.checkpoint.out_dir = out_dir.format(work=tmp_path / 'work')
        cfg.resume = length == 2
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            build_runner(cfg).train()
    assert 'resumed epoch: 1, iter: 3' in runs.log_of(tmp_path)


def test_checkpoints_in_a_remote_store_are_refused(tmp_path):
    cfg = runs.tiny_run(tmp_path)
    cfg.default_hooks.checkpoint.out_dir = 's3://bucket/runs'
    with pytest.raises(InputError, match='cannot resume from checkpoints in s3://bucket/runs; set'):
        build_runner(cfg).train()


@pytest.mark.parametrize(
    ('removed', 'message'),
    [
        (['optimizer', 'param_schedulers'], 'contains no state of the optimizer, as checkpoints'),
        (['message_hub', 'optimizer'], 'contains weights only, so no run can resume from it'),
        (['meta'], 'contains weights only'),
    ],
)
def test_a_checkpoint_without_the_state_of_the_training_is_refused(tmp_path, removed, message):
    """MMEngine would begin the schedule of the learning rate again, without a message."""
    build_runner(runs.tiny_run(tmp_path, length=1)).train()
    checkpoint = dict(read_checkpoint(tmp_path / 'work/epoch_1.pth'))
    for name in removed:
        del checkpoint[name]
    path = tmp_path / 'best.pth'
    torch.save(checkpoint, path)
    cfg = runs.tiny_run(tmp_path, length=2)
    cfg.load_from, cfg.resume = str(path), True
    with pytest.raises(InputError, match=rf'best\.pth {message}'):
        build_runner(cfg).train()
    # weights are loaded from any checkpoint
    cfg.resume = False
    build_runner(cfg).train()


@pytest.mark.parametrize(('code', 'skipped'), [(errno.EIO, True), (errno.ESTALE, False)])
def test_a_missing_file_system_is_not_taken_for_damage(tmp_path, monkeypatch, code, skipped):
    paths = [tmp_path / f'iter_{number}.pth' for number in (2, 1)]
    for path in paths:
        torch.save({}, path)

    class Failing(zipfile.ZipFile):
        def __init__(self, path, *args, **kwargs):
            if path == paths[0]:
                raise OSError(code, 'failed', str(path))
            super().__init__(path, *args, **kwargs)

    monkeypatch.setattr(reading.zipfile, 'ZipFile', Failing)
    logger = MMLogger.get_instance('test_checkpoint_files')
    if skipped:
        assert newest_intact(paths, logger) == paths[1]
    else:
        with pytest.raises(OSError, match='failed'):
            newest_intact(paths, logger)
