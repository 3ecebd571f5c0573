"""The example project runs with the installed wheel, and the notebook in this environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from mmcrosscl.quiet import NOISE

ROOT = Path(__file__).parents[1]


@pytest.mark.slow(100)
def test_the_project_with_its_own_dataset(site, tmp_path):
    project = tmp_path / 'csv_detector'
    skip = shutil.ignore_patterns('data', 'work_dirs', '__pycache__')
    shutil.copytree(ROOT / 'examples/csv_detector', project, ignore=skip)
    config = project / 'configs/rtmdet_tiny_csv.py'
    text = config.read_text()
    config.write_text(text.replace('max_iters = 80', 'max_iters = 12'))
    assert config.read_text() != text
    script = project / 'run.sh'
    # the script replaces PYTHONPATH, which leads to the wheel in this test
    script.write_text(script.read_text().replace('PYTHONPATH=$PWD', f'PYTHONPATH=$PWD:{site}'))
    commands = tmp_path / 'bin'
    commands.mkdir()
    for name, words in (('python', ''), ('mmcrosscl', ' -m mmcrosscl')):
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable}{words} "$@"\n')
        command.chmod(0o755)
    environment = os.environ | {'PATH': f'{commands}:{os.environ["PATH"]}', 'ITERS': '2'}
    done = subprocess.run([script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / 'work_dirs/pretrain/report.html').stat().st_size > 100_000
    logs = {
        start: next((project / f'work_dirs/{start}').glob('*/*.log')).read_text()
        for start in ('random', 'pretrained')
    }
    assert 'pretrained: None, the weights are random' in logs['random']
    assert 'rtmdet_tiny_csv_pretrained.pth' in logs['pretrained']
    assert all('pascal_voc/mAP' in log for log in logs.values())


@pytest.mark.slow(100)
def test_the_notebook(tmp_path, monkeypatch):
    # Jupyter otherwise reads and writes in the home folder
    monkeypatch.setenv('HOME', str(tmp_path))
    # the notebook calls the command mmcrosscl
    folder = os.path.dirname(sys.executable)
    monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')
    notebook = nbformat.read(ROOT / 'examples/notebook/pretrain_and_fine_tune.ipynb', as_version=4)
    resources = {'metadata': {'path': str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name='python3', resources=resources).execute()
    printed = ''.join(
        output.text
        for cell in notebook.cells
        for output in cell.get('outputs', ())
        if output.output_type == 'stream'
    )
    assert 'Training starts.' in printed
    assert not any(map(NOISE.match, printed.splitlines())) and '\x1b' not in printed
    report = tmp_path / 'work_dirs/notebook/pretrain/report.html'
    assert report.stat().st_size > 100_000
    outputs = [str(cell.get('outputs')) for cell in notebook.cells]
    assert any('P3 and P4, between two views' in text for text in outputs)
