"""What a run shows on the screen."""

import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger, print_log
from mmengine.registry import HOOKS

from mmcrosscl.engine import ProgressHook, build_runner
from mmcrosscl.engine.runner import progress_hook
from mmcrosscl.engine.runner.progress_hook import describe_start
from mmcrosscl.engine.runner.screen import ScreenHandler, show_on_screen
from tests.engine.runs import log_of, tiny_run
from tests.terminal import run_on_terminal, screen
from tests.training import tiny_options

TIME = r'\d\d/\d\d \d\d:\d\d:\d\d'


@HOOKS.register_module()
class Speaker(Hook):
    """Logs and prints in each iteration."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.logger.info(f'logged {runner.iter}')
        print(f'printed {runner.iter}')


@pytest.fixture
def logger(tmp_path):
    logger = MMLogger('screen', log_file=str(tmp_path / 'log'))
    show_on_screen(logger)
    return logger


def test_the_screen_shows_a_part_of_the_log_file(logger, tmp_path, capsys):
    logger.info('shown')
    logger.warning('careful')
    logger.info('a table', extra=dict(file_only=True))
    print_log('from within mmengine', logger=logger)
    useless = (
        '"FileClient" will be deprecated in future.',
        'bbox_head.cls_convs.1.0.conv is duplicate. It is skipped since bypass_duplicate=True',
        'backbone.stem.0.conv.weight is skipped since its requires_grad=False',
    )
    for text in useless:
        logger.warning(text)
    shown = capsys.readouterr().out.splitlines()
    assert re.fullmatch(f'{TIME}  shown', shown[0])
    assert re.fullmatch(f'{TIME}  WARNING: careful', shown[1])
    assert len(shown) == 2
    log = (tmp_path / 'log').read_text()
    for text in ('shown', 'careful', 'a table', 'from within mmengine', *useless):
        assert text in log


def test_debug_shows_everything(capsys):
    logger = MMLogger('screen', log_level='DEBUG')
    show_on_screen(logger)
    print_log('from within mmengine', logger=logger)
    logger.info('a table', extra=dict(file_only=True))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_level_of_the_handler_is_kept():
    logger = MMLogger('screen')
    # as in the processes other than the first
    logger.handlers[0].setLevel(logging.ERROR)
    show_on_screen(logger)
    (handler,) = logger.handlers
    assert isinstance(handler, ScreenHandler) and handler.level == logging.ERROR


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_run_shows_ten_lines_and_then_the_state_of_training(tmp_path, capsys, by_epoch):
    cfg = tiny_run(tmp_path, by_epoch, length=2 if by_epoch else 6)
    build_runner(cfg).train()
    lines = capsys.readouterr().out.splitlines()
    # older releases of torch have no fused SGD for CPUs
    lines = [line for line in lines if 'The optimizer is not fused' not in line]
    first = next(row for row, line in enumerate(lines) if 'iteration 1/6' in line)
    assert re.fullmatch(f'{TIME}  Training starts.', lines[0])
    assert first == 9
    facts = dict(line.strip().split(maxsplit=1) for line in lines[1:9])
    assert facts['config'] == 'configs/crosscl/r50_8xb32_folder.py'
    assert facts['results'] == f'{tmp_path}/work'
    assert facts['data'] == f'12 images in {tmp_path}/photos, 0 workers per process'
    assert re.fullmatch(r'CrossCL with ResNet-18, \d\.\d M trainable parameters', facts['model'])
    assert re.fullmatch('.*, float32', facts['device'])
    length = '2 epochs of 3 iterations' if by_epoch else '6 iterations'
    assert facts['schedule'] == f'{length}, 4 images per iteration'
    assert facts['optimizer'] == 'SGD, learning rate 0.03, CosineAnnealingLR'
    assert facts['start'] == 'random weights'

    state = [line for line in lines if re.search(r'iteration \d/6', line)]
    assert len(state) == 6
    epoch = r'epoch 1/2 · ' if by_epoch else ''
    assert re.fullmatch(
        epoch + r'iteration 1/6 · \d:\d\d:\d\d left · loss [\d.]+ · global [\d.]+ · '
        r'p4_p4 [\d.]+ · p3_p3 [\d.]+ · p4_p3 [\d.]+ · p3_p4 [\d.]+ · [\d.]+ images/s · '
        r'data wait \d+ %',
        state[0],
    )
    saved = [line for line in lines if 'Saved ' in line]
    assert len(saved) == 2 and saved[-1].endswith('epoch_2.pth' if by_epoch else 'iter_6.pth')
    log = log_of(tmp_path)
    assert 'Config:\n' in log and 'Hooks will be executed' in log and '(train)' in log


def test_a_resumed_run_says_where(tmp_path, capsys):
    build_runner(tiny_run(tmp_path, length=1)).train()
    cfg = tiny_run(tmp_path, length=2)
    cfg.resume = True
    capsys.readouterr()
    build_runner(cfg).train()
    out = capsys.readouterr().out
    assert '  start      resumes after iteration 3\n' in out
    assert 'Loads checkpoint' not in out


def test_a_source_of_weights_is_named(tmp_path, capsys):
    build_runner(tiny_run(tmp_path, length=1)).train()
    cfg = tiny_run(tmp_path, length=1)
    cfg.load_from = f'{tmp_path}/work/epoch_1.pth'
    capsys.readouterr()
    build_runner(cfg).train()
    assert f'  start      weights of {cfg.load_from}\n' in capsys.readouterr().out
    cfg.pretrained = 'a.pth'
    build_runner(cfg).train()
    assert f'  start      weights of a.pth and {cfg.load_from}\n' in capsys.readouterr().out
    cfg.pretrained = cfg.load_from
    build_runner(cfg).train()
    assert f'  start      weights of {cfg.load_from}\n' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('cfg', 'start'),
    [
        (dict(model=dict(backbone=dict(init_cfg=None))), 'random weights'),
        (dict(model=dict(backbone=dict(init_cfg=dict(type='Kaiming')))), 'random weights'),
        (
            dict(model=dict(neck=dict(init_cfg=dict(type='Pretrained', checkpoint='x.pth')))),
            'initial weights of the config',
        ),
        (dict(model=dict(backbone=dict(pretrained=True))), 'initial weights of the config'),
        # a model from Python
        (dict(), 'initial weights of the config'),
        (dict(model=dict(), pretrained='x.pth'), 'weights of x.pth'),
    ],
)
def test_weights_are_called_random_only_if_that_is_certain(cfg, start):
    assert describe_start(SimpleNamespace(iter=0, cfg=Config(cfg))) == start


def test_a_terminal_shows_new_losses_every_ten_seconds_and_with_each_log(monkeypatch):
    """Reading the losses waits for the GPU."""
    monkeypatch.setattr(progress_hook, 'state', lambda runner: ['losses'])
    monkeypatch.setattr(progress_hook, 'is_logged', lambda hook, runner, batch_idx: batch_idx == 5)
    shown = []
    hook = ProgressHook()
    hook._bar = SimpleNamespace(
        on_terminal=True, due=True, update=lambda done, epoch, details: shown.append(details)
    )
    for number in range(10):
        # 4 seconds per iteration
        monkeypatch.setattr(progress_hook.time, 'monotonic', lambda now=100 + 4 * number: now)
        hook.after_train_iter(SimpleNamespace(iter=number, train_loop=None), number)
    assert [row for row, details in enumerate(shown) if details == 'losses'] == [0, 3, 5, 8]
    assert len(shown) == 10


@pytest.mark.slow(20)
def test_a_terminal_shows_a_live_bar_and_intact_lines(tmp_path, photos):
    config = tmp_path / 'mine.py'
    config.write_text(
        f"_base_ = '{Path.cwd()}/configs/crosscl/r50_8xb32_folder.py'\n"
        "custom_imports = dict(imports=['tests.engine.runner.test_screen'])\n"
        "custom_hooks = [dict(type='Speaker')]\n"
    )
    status, output = run_on_terminal(
        [
            sys.executable, '-m', 'mmcrosscl', 'train', str(config),
            '--work-dir', str(tmp_path / 'work'), '--cfg-options', *tiny_options(photos),
            # a worker process is forked while the bar is shown
            'train_cfg.max_epochs=2', 'train_dataloader.num_workers=1',
        ],
        columns=400,
    )  # fmt: skip
    assert status == 0, output
    assert re.search(r'epoch 1/2.*?/8', output) and 'data wait' in output
    lines = [line for line in screen(output) if line and 'optimizer is not fused' not in line]
    assert re.fullmatch(f'{TIME}  Training starts.', lines[0])
    expected = []
    for iteration in range(8):
        expected += [f'logged {iteration}', f'printed {iteration}']
        if iteration % 4 == 3:
            expected.append(f'Saved {tmp_path}/work/epoch_{iteration // 4 + 1}.pth')
    # the order of the two hooks' lines and of nothing else is that of the run
    assert [re.sub(f'^{TIME}  ', '', line) for line in lines[9:]] == expected
