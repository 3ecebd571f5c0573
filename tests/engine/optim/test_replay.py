import copy
import json
import re

import numpy as np
import pytest
import torch

from mmcrosscl.cli import main
from mmcrosscl.engine import build_runner, replay
from mmcrosscl.errors import InputError, NonFiniteError
from tests.engine import runs
from tests.engine.optim.skipped_updates import poisoned, tensors


def test_consecutive_nan_inf_steps_stop_training_and_can_be_replayed(tmp_path, monkeypatch, capsys):
    cfg = poisoned(tmp_path, [], length=9)
    # weights of 1e30 are finite, but the results computed from them are not
    cfg.optim_wrapper.optimizer.lr = 1e30
    cfg.param_scheduler = [dict(type='ConstantLR', factor=1e-40, end=4, by_epoch=False)]
    runner = build_runner(cfg)
    with pytest.raises(
        NonFiniteError, match='3 consecutive steps; inspect the first of them with: mmcrosscl'
    ):
        runner.train()
    iteration = int(
        re.search(r'in iteration (\d+): the update is skipped', runs.log_of(tmp_path))[1]
    )
    for path in tmp_path.glob('work/epoch_*.pth'):
        assert all(value.isfinite().all() for value in tensors(path).values())

    record = tmp_path / f'work/non_finite_iter_{iteration}_rank_0.pth'
    readable = json.loads(record.with_suffix('.json').read_text())
    assert readable['iter'] == iteration - 1 and readable['rank'] == 0
    for sample in readable['samples']:
        assert sample['img_path'].startswith(str(tmp_path / 'photos'))
        assert np.shape(sample['crops']) == (2, 4) and np.shape(sample['key_regions'])[1] == 4
        assert sample['sample_idx']['position'] == 4 * (iteration - 1) % 12 + readable[
            'samples'
        ].index(sample)
    text = replay(cfg, record)
    assert 'loss_global: nan' in text or 'loss_p4_p4: nan' in text or 'loss: nan' in text
    assert re.search(r'first NaN/Inf output: (?!none)', text)
    assert re.search(r'NaN/Inf gradients: [1-9]\d* of \d+: ', text)
    assert readable['samples'][0]['img_path'] in text
    half = copy.deepcopy(cfg)
    half.optim_wrapper = dict(type='AmpOptimWrapper', optimizer=cfg.optim_wrapper.optimizer)
    assert replay(half, record) == text

    config = tmp_path / 'run.py'
    cfg.dump(config)
    monkeypatch.setenv('LOCAL_RANK', '0')
    assert main(['replay', str(config), str(record)]) == 0
    assert text in capsys.readouterr().out


def test_a_finite_step_replays_without_nan_inf(tmp_path):
    cfg = poisoned(tmp_path, [1], limit=1)
    cfg.train_dataloader.dataset.pipeline[3].on_device = True
    cfg.train_dataloader.dataset.pipeline[4].on_device = True
    with pytest.raises(NonFiniteError):
        build_runner(cfg).train()
    text = replay(cfg, tmp_path / 'work/non_finite_iter_2_rank_0.pth')
    assert 'first NaN/Inf output: none' in text
    assert 'NaN/Inf gradients: 0 of' in text


def test_the_replay_refuses_other_files(tmp_path):
    torch.save({'state_dict': {}}, tmp_path / 'x.pth')
    cfg = runs.tiny_run(tmp_path)
    with pytest.raises(InputError, match='has no inputs, meta, samples; pass a non_finite_iter_'):
        replay(cfg, tmp_path / 'x.pth')
