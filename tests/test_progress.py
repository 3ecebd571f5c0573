"""Progress on a terminal and elsewhere."""

import os
import subprocess
import sys

import pytest

from mmcrosscl import progress
from tests.terminal import run_on_terminal, screen

PROGRAM = """
import sys, warnings
from mmcrosscl.progress import ProgressBar, track, write_line

bar = ProgressBar('training', 4, 'iterations', lines=False)
for done in range(1, 5):
    bar.update(done, f'epoch {done}/4', 'loss 1.5 · 20 images/s · ' + 'x' * 500)
    write_line(f'line {done}')
    for _ in track(range(3), 'validation', unit='batches'):
        pass
print('printed', flush=True)
print('an error', file=sys.stderr)
bar.close()
bar.close()
print('end')
"""
LINES = ['line 1', 'line 2', 'line 3', 'line 4', 'printed', 'an error', 'end']


def test_a_terminal_shows_bars_below_intact_lines():
    status, output = run_on_terminal([sys.executable, '-c', PROGRAM], columns=80)
    assert status == 0, output
    assert 'epoch 3/4' in output and '3/4' in output and 'validation' in output
    assert 'loss 1.5 · 20 images/s' in output
    # the bars are removed, and each line is left as it was written
    assert [line for line in screen(output) if line] == LINES
    # a killed process must not leave a terminal without a cursor
    assert output.index('\x1b[?25h') < output.index('epoch 1/4')


def test_a_bar_has_one_line_and_its_details_another():
    program = PROGRAM.partition("print('printed'")[0] + 'import os; os._exit(0)'
    status, output = run_on_terminal([sys.executable, '-c', program], columns=80)
    lines = screen(output)
    assert lines[:4] == LINES[:4]
    assert '4/4 iterations' in lines[4]
    assert lines[5].startswith('loss 1.5') and lines[5].endswith('…') and len(lines[5]) == 80
    assert not any(lines[6:])


def test_errors_reach_a_file_and_not_the_terminal(tmp_path):
    log = tmp_path / 'errors.txt'
    words = ['bash', '-c', f'"$0" -c "$1" 2> {log}', sys.executable, PROGRAM]
    status, output = run_on_terminal(words)
    assert status == 0 and log.read_text() == 'an error\n'
    assert [line for line in screen(output) if line] == [x for x in LINES if x != 'an error']


def test_without_a_terminal_short_steps_print_nothing():
    # as in a Jupyter notebook, which sets this variable for its kernel
    environment = os.environ | dict(FORCE_COLOR='1')
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM], capture_output=True, text=True, env=environment
    )
    assert done.stdout.splitlines() == [line for line in LINES if line != 'an error']
    assert done.stderr == 'an error\n'


def test_the_terminal_of_a_command_in_a_notebook_shows_no_bar(monkeypatch):
    monkeypatch.setenv('JPY_PARENT_PID', '1')
    status, output = run_on_terminal([sys.executable, '-c', PROGRAM])
    # a terminal ends a line with a carriage return and a line feed
    assert status == 0 and output.split('\r\n') == [*LINES, '']


def test_without_a_terminal_long_steps_print_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress, 'FIRST_LINE', -1)
    monkeypatch.setattr(progress, 'NEXT_LINE', -1)
    assert list(progress.track('ab', 'Reading', unit='letters')) == ['a', 'b']
    assert capsys.readouterr().out == 'Reading: 0/2 letters\nReading: 1/2 letters\n'
    with progress.progress_bar('Indexing x', unit='images') as bar:
        bar.update(1234)
    assert capsys.readouterr().out == 'Indexing x: 1,234 images\n'


def test_only_the_main_process_shows_progress(monkeypatch, capsys):
    monkeypatch.setattr(progress, 'FIRST_LINE', -1)
    monkeypatch.setattr(progress, 'MAIN_PROCESS', False)
    assert list(progress.track('ab', 'Reading')) == ['a', 'b']
    assert capsys.readouterr().out == ''


def test_the_bar_is_removed_after_an_error(monkeypatch):
    with pytest.raises(ZeroDivisionError), progress.progress_bar('Reading', 1):
        _ = 1 / 0
    assert progress._display is None
