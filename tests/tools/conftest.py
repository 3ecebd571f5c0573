import os
import signal
import subprocess
import sys

import pytest

from tests.tools.processes import ranks
from tests.training import tiny_options

LONG = ['train_cfg.max_epochs=500', 'train_dataloader.num_workers=1', 'env_cfg.dist_cfg.timeout=15']


@pytest.fixture
def launch(tmp_path, photos):
    """Return a function that starts a command in a new session. The fixture kills all processes."""
    started = []

    def run(*command, options=(), out='out', work_dir=tmp_path / 'work', **environment):
        options = [*tiny_options(photos), *LONG, *options]
        words = [*command, '--work-dir', work_dir, '--cfg-options', *options]
        environment = {
            **os.environ,
            'PYTHON': sys.executable,
            'OMP_NUM_THREADS': '1',
            **environment,
        }
        with (tmp_path / out).open('a') as log:
            process = subprocess.Popen(
                [str(word) for word in words],
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment,
                # a job in the background of a script ignores SIGINT, and so do its children
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        subprocess.run(['pkill', '-KILL', '-s', str(process.pid)])
        for pid in ranks(tmp_path):
            os.kill(pid, signal.SIGKILL)
