"""A Slurm cluster of two nodes on this machine, for tests."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
FirstJobId={ports[0]}
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd_%n.log
ReturnToService=2
KillWait=10
MpiDefault=none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=1000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=1000
PartitionName=cpu Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = ('slurmctld', 'slurmd', 'munged', 'sbatch')


def reason_to_skip() -> str | None:
    """Return why Slurm cannot be started here, or None."""
    if not all(map(shutil.which, PROGRAMS)):
        return 'needs Slurm: apt-get install slurm-wlm munge'
    return None if os.geteuid() == 0 else 'Slurm is started by root'


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[None]:
    """Start Slurm with state in a folder; its commands work within the context."""
    start_munge()
    (folder / 'state').mkdir(parents=True)
    conf = folder / 'slurm.conf'
    # clusters of parallel tests have different ports, also those that follow from the job ids
    ports = [free_port() for _ in range(3)]
    host = socket.gethostname().partition('.')[0]
    conf.write_text(CONF.format(host=host, folder=folder, ports=ports))
    before, os.environ['SLURM_CONF'] = os.environ.get('SLURM_CONF'), str(conf)
    daemons = [['slurmctld', '-D'], ['slurmd', '-D', '-N', 'n1'], ['slurmd', '-D', '-N', 'n2']]
    processes = [
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for words in daemons
    ]
    try:
        wait_until(nodes_are_idle)
        yield
    finally:
        subprocess.run(['scancel', '--full', '--signal=KILL', '--user=root'], check=False)
        for process in reversed(processes):
            process.terminate()
            process.wait(60)
        os.environ.pop('SLURM_CONF')
        if before is not None:
            os.environ['SLURM_CONF'] = before


def nodes_are_idle() -> bool:
    """Return whether both nodes can run jobs."""
    # sinfo fails until the controller listens
    words = ['sinfo', '-h', '-t', 'idle', '-o', '%D']
    return subprocess.run(words, capture_output=True, text=True).stdout.strip() == '2'


def start_munge() -> None:
    """Start the daemon that authenticates Slurm's messages, unless it runs."""
    if subprocess.run(['munge', '-n'], stdin=subprocess.DEVNULL, capture_output=True).returncode:
        key = Path('/etc/munge/munge.key')
        if not key.exists():
            key.parent.mkdir(parents=True, exist_ok=True)
            key.write_bytes(os.urandom(1024))
            shutil.chown(key, 'munge', 'munge')
            key.chmod(0o400)
        for path in ('/run/munge', '/etc/munge', '/var/lib/munge', '/var/log/munge'):
            Path(path).mkdir(parents=True, exist_ok=True)
            shutil.chown(path, 'munge', 'munge')
        subprocess.run(['su', 'munge', '-s', '/bin/sh', '-c', 'munged'], check=True)


def slurm(*words: object) -> str:
    """Run a command of Slurm, and return its output."""
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True).stdout


def wait_until(done: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a function returns a true value."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, 'timeout'
        time.sleep(0.2)
