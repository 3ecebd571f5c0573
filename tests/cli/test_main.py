"""Help, errors and exit statuses of all verbs."""

import errno
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from mmcrosscl import cli, errors
from mmcrosscl.checkpoints import TARGETS
from mmcrosscl.cli import convert


def process(*words, **environment):
    return subprocess.run(
        [sys.executable, '-m', 'mmcrosscl', *words],
        capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def test_the_help_lists_every_verb_and_imports_only_what_is_fast():
    code = (
        'import sys\n'
        'from mmcrosscl.cli import main\n'
        'try:\n    main(["--help"])\n'
        'except SystemExit:\n    print("torch" in sys.modules, file=sys.stderr)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    for verb in cli.VERBS:
        assert re.search(rf'^    {verb}\s', done.stdout, re.MULTILINE)
    # an import of torch takes over a second
    assert done.stderr.strip() == 'False'


@pytest.mark.parametrize('code', ['import mmcrosscl', 'import mmcrosscl.cli.train'])
def test_importing_the_package_does_not_import_torch(code):
    check = 'assert not {"torch", "mmcv", "mmdet", "mmpretrain"} & set(sys.modules)'
    subprocess.run([sys.executable, '-c', f'import sys; {code}; {check}'], check=True)


@pytest.mark.parametrize('verb', cli.VERBS)
def test_every_verb_has_help(verb, command):
    done = command(verb, '--help')
    assert done.status == 0 and done.out.startswith(f'usage: mmcrosscl {verb} ')


def test_the_targets_of_the_help_are_those_of_the_converter():
    assert convert.TARGETS == TARGETS


@pytest.mark.parametrize('words', [[], ['nonsense'], ['plot'], ['train', '--gpu', '2', 'x.py']])
def test_wrong_usage(command, words):
    done = command(*words)
    assert done.status == 2 and 'usage: mmcrosscl' in done.err


@pytest.mark.parametrize('verb', ['train', 'demo', 'plot'])
def test_an_unsupported_version_prints_one_sentence_and_fails(tmp_path, verb):
    info = tmp_path / 'onedl_mmdetection-1.0.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(
        'Metadata-Version: 2.1\nName: onedl-mmdetection\nVersion: 1.0.0\n'
    )
    done = process(*[verb, 'x'][: 1 + (verb != 'demo')], PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith('error: mmcrosscl ')
    assert (
        ' needs onedl-mmdetection ' in done.stderr
        and 'but 1.0.0 is installed; run: ' in done.stderr
    )
    assert len(done.stderr.splitlines()) == 1


def raising(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize(
    'error, status, message',
    [
        (errors.InputError('x is 3; it must be 4'), 1, 'error: x is 3; it must be 4\n'),
        (errors.NonFiniteError('NaN; fix it'), 65, 'error: NaN; fix it\n'),
        (errors.RunError('a process died; rerun'), 74, 'error: a process died; rerun\n'),
        (KeyboardInterrupt(), 130, 'error: interrupted\n'),
        (errors.Preempted(), 75, ''),
    ],
)
@pytest.mark.parametrize('verb', ['train x', 'test x', 'convert a b --to timm', 'plot x',
                                  'replay x y', 'demo',
                                  'pretrain --detector x --data y --work-dir z'])  # fmt: skip
def test_every_verb_prints_one_sentence_and_sets_the_exit_status(
    command, monkeypatch, verb, error, status, message
):
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    words = verb.split()
    monkeypatch.setattr(getattr(cli, words[0]), 'run', raising(error))
    try:
        done = command(*words)
        ignored = [signal.getsignal(number) == signal.SIG_IGN for number in signals]
    finally:
        for number, handler in signals.items():
            signal.signal(number, handler)
    assert (done.status, done.err) == (status, message)
    # the status of a preempted process survives further signals
    assert ignored == [status == 75] * 2


def test_a_folder_that_cannot_be_read_is_one_sentence(command, monkeypatch):
    error = PermissionError(errno.EACCES, 'Permission denied', '/photos/locked')
    monkeypatch.setattr('mmcrosscl.cli.plot.run', raising(error))
    done = command('plot', 'x')
    assert done.status == 1
    assert done.err.startswith('error: cannot access /photos/locked: Permission denied; give this ')


def test_an_unexpected_error_prints_a_traceback_and_exits_with_status_70(command, monkeypatch):
    monkeypatch.setattr('mmcrosscl.cli.plot.run', raising(KeyError('surprise')))
    done = command('plot', 'x')
    assert done.status == 70 and 'Traceback' in done.err and 'surprise' in done.err


@pytest.mark.parametrize(
    'words',
    [
        ('scenes', '{}/file/scenes', '--unlabeled', '0', '--train', '0', '--test', '0'),
        ('subsets', 'tests/data/coco.json', '--sizes', '1', '--out', '{}/file/out'),
    ],
)
def test_a_folder_that_cannot_be_created_is_one_sentence(words, tmp_path, command, monkeypatch):
    (tmp_path / 'file').touch()
    coco = dict(
        images=[dict(id=0, file_name='a.jpg')],
        annotations=[dict(id=0, image_id=0, category_id=0, bbox=[0, 0, 1, 1])],
        categories=[dict(id=0, name='a')],
    )
    (tmp_path / 'coco.json').write_text(json.dumps(coco))
    # the scenes need no sources if none is drawn
    monkeypatch.setattr('mmcrosscl.datasets.demo.scenes.split_sources', lambda seed: ({}, {}))
    words = [word.format(tmp_path).replace('tests/data', str(tmp_path)) for word in words]
    done = command(*words)
    assert done.status == 1
    assert re.match(r'error: cannot (write|create) \S*/file\S*: ', done.err), done.err
    assert len(done.err.splitlines()) == 1
