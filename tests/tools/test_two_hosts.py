"""tools/dist_train.sh on two hosts whose names resolve to 127.0.1.1, without a shared disk."""

import os
import signal
import subprocess
import time

import pytest

from mmcrosscl.checkpoints import verify_checksums
from mmcrosscl.errors import EXIT_PREEMPTED
from tests.engine.runs import assert_same_state
from tests.hosts import two_hosts
from tests.tools.processes import ranks, wait_for

pytestmark = pytest.mark.hosts

COMMAND = ['tools/dist_train.sh', 'configs/crosscl/r50_8xb32_folder.py']
# 16 images are 2 iterations of 2 processes
SHORT = ['train_cfg.max_epochs=60', 'param_scheduler.0.T_max=60', 'randomness.seed=1']


@pytest.mark.soak
def test_two_hosts_lose_nothing_and_end_with_the_weights_of_one_host(tmp_path, launch):
    """Preempted twice, once on each host, and one process is killed."""
    with two_hosts(tmp_path / 'hosts') as hosts:
        # of these addresses, that of the second host is the first in alphabetical order
        settings = dict(NNODES='2', MASTER_ADDR=hosts[0].address, options=SHORT)
        place = hosts[0].mounted / 'work'

        def start(*words):
            # the second host starts first and waits
            for host in reversed(hosts):
                command = host.command(*COMMAND, 1, *words)
                processes[host.name] = launch(*command, out=host.name, work_dir=place, **settings)

        def preempt(name):
            end = {key: len((tmp_path / key).read_text()) for key in processes}
            start = time.monotonic()
            processes[name].terminate()
            statuses = {key: process.wait(60) for key, process in processes.items()}
            assert statuses == {'a': EXIT_PREEMPTED, 'b': EXIT_PREEMPTED}, statuses
            assert time.monotonic() - start < 30
            assert 'Preempted: saved' in (tmp_path / 'a').read_text()[end['a'] :]

        processes = {}
        start()
        wait_for(tmp_path, r'Saved .*epoch_2\.pth', out='a')
        assert not list(hosts[1].disk.glob('work/*.pth'))
        preempt('b')
        start('--resume')
        position = wait_for(tmp_path, 'resumes after iteration', out='a')
        # the second host has got a copy
        (copy,) = hosts[1].disk.glob('work/*.pth')
        verify_checksums(copy)

        victim = next(pid for pid in ranks(tmp_path) if host_of(pid) == 'b')
        os.kill(victim, signal.SIGKILL)
        position = wait_for(tmp_path, 'resumes after iteration', 120, position, out='a')
        wait_for(tmp_path, 'Saved ', after=position, out='a')
        preempt('a')
        start('--resume')
        assert [process.wait(180) for process in processes.values()] == [0, 0]
    alone = launch(*COMMAND, 2, options=SHORT)
    assert alone.wait(180) == 0
    assert_same_state(hosts[0].disk / 'work/epoch_60.pth', tmp_path / 'work/epoch_60.pth')


def host_of(pid: int) -> str:
    """Return the host name that a process sees."""
    words = ['nsenter', '--target', str(pid), '--uts', 'hostname']
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow(40)
def test_checkpoints_on_another_host_are_not_ignored(tmp_path, launch):
    with two_hosts(tmp_path / 'hosts') as hosts:
        (hosts[1].disk / 'work').mkdir()
        (hosts[1].disk / 'work/epoch_7.pth').touch()
        settings = dict(NNODES='2', MASTER_ADDR=hosts[0].address)
        processes = [
            launch(
                *host.command(*COMMAND, 1, '--resume'),
                work_dir=host.mounted / 'work', out=host.name, **settings,
            )
            for host in hosts
        ]  # fmt: skip
        assert 1 in [process.wait(120) for process in processes]
    text = (tmp_path / 'a').read_text() + (tmp_path / 'b').read_text()
    assert 'work/epoch_7.pth on b exists, but the machine of rank 0 has no checkpoint' in text
