"""Files that run a command when they are unpickled are refused wherever a checkpoint is read."""

import os
from contextlib import suppress
from pickle import UnpicklingError

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import load_checkpoint

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.cli import main
from mmcrosscl.datasets import UnlabeledDataset
from mmcrosscl.engine import build_runner
from mmcrosscl.errors import InputError
from tests.checkpoints.hostile import Hostile
from tests.engine import runs


@HOOKS.register_module()
class LoadWithin(Hook):
    """Loads a checkpoint during a run, like the code of a model or of another project."""

    def __init__(self, path: str, loader: str) -> None:
        self.path, self.loader = path, loader

    def before_train(self, runner):
        if self.loader == 'mmengine':
            load_checkpoint(runner.model, self.path)
            return
        try:
            # many callers set weights_only=False, which must have no effect
            torch.load(self.path, weights_only=False)
        except UnpicklingError as error:
            raise InputError(f'checkpoint {self.path} holds code ({error})') from error


@pytest.fixture
def sign(tmp_path):
    return tmp_path / 'sign'


@pytest.fixture
def hostile(tmp_path, sign):
    """A complete training checkpoint that also runs a command when it is unpickled."""
    cfg = runs.tiny_run(tmp_path / 'run', length=1)
    build_runner(cfg).train()
    path = tmp_path / 'run/work/epoch_1.pth'
    checkpoint = read_checkpoint(path)
    checkpoint['extra'] = Hostile(sign)
    torch.save(checkpoint, path)
    return path


def resume(cfg, hostile):
    cfg.resume, cfg.load_from = True, str(hostile)
    build_runner(cfg).train()


def resume_newest(cfg, hostile):
    cfg.resume, cfg.work_dir = True, str(hostile.parent)
    build_runner(cfg).train()


def load_from(cfg, hostile):
    cfg.load_from = str(hostile)
    build_runner(cfg).train()


def init_cfg(cfg, hostile):
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(hostile), prefix='backbone.'
    )
    build_runner(cfg).train()


def pretrained_hook(cfg, hostile):
    cfg.pretrained = str(hostile)
    cfg.default_hooks.pretrained = dict(type='mmcrosscl.PretrainedHook')
    build_runner(cfg).train()


def mmengine_loader(cfg, hostile):
    cfg.custom_hooks = [dict(type='LoadWithin', path=str(hostile), loader='mmengine')]
    build_runner(cfg).train()


def torch_load(cfg, hostile):
    cfg.custom_hooks = [dict(type='LoadWithin', path=str(hostile), loader='torch')]
    build_runner(cfg).train()


WAYS = [resume, resume_newest, load_from, init_cfg, pretrained_hook, mmengine_loader, torch_load]


@pytest.mark.slow
@pytest.mark.parametrize('way', WAYS, ids=[way.__name__ for way in WAYS])
def test_no_entry_point_runs_the_command_unless_the_config_trusts_it(tmp_path, hostile, sign, way):
    cfg = runs.tiny_run(tmp_path / 'run', length=2)
    cfg.work_dir = str(tmp_path / 'other')
    with pytest.raises(InputError, match=r'epoch_1.pth holds code \('):
        way(cfg, hostile)
    assert not sign.exists()

    # the command runs if the file is trusted, so the file is indeed hostile
    cfg = runs.tiny_run(tmp_path / 'run', length=2)
    cfg.work_dir = str(tmp_path / 'other')
    cfg.trust_checkpoints = True
    # only the reading matters; the run may fail later
    with suppress(InputError):
        way(cfg, hostile)
    assert sign.exists()


def commands(tmp_path, hostile):
    config = str(tmp_path / 'run.py')
    cfg = runs.tiny_run(tmp_path / 'run', length=2)
    cfg.test_dataloader = cfg.train_dataloader
    cfg.test_cfg, cfg.test_evaluator = dict(), dict(type='mmpretrain.Accuracy')
    cfg.dump(config)
    work = ['--work-dir', str(tmp_path / 'other')]
    return {
        'train': ['train', config, *work, '--resume', str(hostile)],
        'test': ['test', config, str(hostile), *work],
        'convert': ['convert', str(hostile), str(tmp_path / 'out.pth'), '--to', 'mmdet'],
        'replay': ['replay', config, str(hostile)],
    }


@pytest.mark.parametrize('name', ['train', 'test', 'convert', 'replay'])
def test_commands_refuse_it_with_one_sentence(tmp_path, hostile, sign, name, monkeypatch, capsys):
    monkeypatch.setenv('LOCAL_RANK', '0')
    words = commands(tmp_path, hostile)[name]
    capsys.readouterr()
    assert main(words) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith('error: ') and 'holds code' in last and '--trust-checkpoints' in last
    assert not sign.exists()


def test_a_run_ignores_torchs_variable_for_unsafe_loading(tmp_path, sign, monkeypatch):
    variable = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
    build_runner(runs.tiny_run(tmp_path, length=1)).train()
    torch.save({'state_dict': Hostile(sign)}, tmp_path / 'hostile.pth')
    monkeypatch.setenv(variable, '1')
    cfg = runs.tiny_run(tmp_path, length=2)
    cfg.resume = True
    with pytest.raises(InputError, match=r'hostile.pth holds code \('):
        torch_load(cfg, tmp_path / 'hostile.pth')
    assert 'resumed epoch: 1' in runs.log_of(tmp_path)
    assert not sign.exists() and os.environ[variable] == '1'


def test_resuming_does_not_run_the_config_in_the_checkpoint(tmp_path, sign):
    """MMEngine's own resume executes ``meta['config']``, which is Python code."""
    cfg = runs.tiny_run(tmp_path, length=1)
    build_runner(cfg).train()
    path = tmp_path / 'work/epoch_1.pth'
    checkpoint = read_checkpoint(path)
    checkpoint['meta']['config'] = f'import os\nos.system("touch {sign}")\n'
    torch.save(checkpoint, path)
    cfg = runs.tiny_run(tmp_path, length=2)
    cfg.resume = True
    build_runner(cfg).train()
    assert (tmp_path / 'work/epoch_2.pth').exists() and not sign.exists()


@pytest.mark.parametrize('name', ['../secret.png', '/etc/secret.png', 'a/../../secret.png'])
def test_an_image_list_cannot_lead_out_of_the_folder(tmp_path, name):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'list.txt').write_text(f'a.png\n{name}\n')
    with pytest.raises(
        InputError, match='contains .*secret.png, which is not below .*photos; list'
    ):
        UnlabeledDataset(
            data_root=str(tmp_path), data_prefix='photos', ann_file='list.txt', pipeline=[]
        )


def test_last_checkpoint_cannot_lead_out_of_the_work_dir(tmp_path, hostile, sign):
    """MMEngine follows any path in the file ``last_checkpoint``."""
    work = tmp_path / 'other'
    work.mkdir()
    (work / 'last_checkpoint').write_text(str(hostile))
    cfg = runs.tiny_run(tmp_path / 'run', length=1)
    cfg.resume, cfg.work_dir = True, str(work)
    build_runner(cfg).train()
    assert (work / 'epoch_1.pth').exists() and not sign.exists()
