"""Every part of tools/benchmark.py runs and prints its tables. The speed is not tested."""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def run(*words):
    return subprocess.run(
        [sys.executable, 'tools/benchmark.py', *words], capture_output=True, text=True, timeout=600
    )


@pytest.mark.parametrize(
    'part, rows',
    [
        ('loader', ['Pillow', 'MMPretrain', 'mmcrosscl', 'mmcrosscl, on_device=True']),
        ('loss', ['plain: all logits', 'mmcrosscl', '512', '1,024']),
        ('step', ['plain', r'\+ channels-last', r'\+ bfloat16', '1', '2', '4']),
        ('scale', ['MMEngine: ms per iteration', 'mmcrosscl, later: s', 'tar files: ms per image']),
        ('flops', ['1,000 iterations of 32', r'200 epochs of ImageNet \(published\)']),
        ('comm', ['gather everything', 'mmcrosscl', '8', '64', '512']),
    ],
)
def test_a_part_prints_its_tables(part, rows):
    done = run(part, '--small', '--rounds', '1')
    assert done.returncode == 0, done.stderr
    assert 'cores; torch ' in done.stdout
    for row in rows:
        # a dash is an exponent of a single size
        cells = r'( ([^|]*\d[^|]*|—) \|)+'
        assert re.search(rf'^\| {row}[^|]*\|{cells}$', done.stdout, re.M), row
    # the speedup of the baseline is 1
    assert part == 'flops' or re.search(r'\| 1 \|', done.stdout)


def test_zero_rounds_are_an_error():
    done = run('loss', '--rounds', '0')
    assert done.returncode == 1 and done.stderr == 'error: --rounds is 0; pass at least 1\n'
