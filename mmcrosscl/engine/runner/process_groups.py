"""Check of the launcher, network settings, and process groups without a GPU."""

import os
import subprocess
from datetime import timedelta

from torch import distributed

from mmcrosscl.errors import InputError
from mmcrosscl.network import interface_to


def check_launcher(launcher: str) -> None:
    """Raise an InputError if the program that the launcher names did not start the process."""
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise InputError(
            '--launcher pytorch needs processes started by torchrun; use tools/dist_train.sh'
        )
    if launcher == 'slurm' and 'SLURM_PROCID' not in os.environ:
        raise InputError(
            '--launcher slurm needs processes started by srun; use tools/slurm_train.sh'
        )


def prepare_network(launcher: str) -> None:
    """Set the environment variables through which the processes of several machines connect.

    For Slurm, torch's variables are set from Slurm's, with a port per job step, because jobs that
    share a node would otherwise use the same port. For gloo, the network interface is that of the
    route to ``MASTER_ADDR``. By default gloo uses the address of the host name, which other
    machines cannot reach on hosts that map it to 127.0.1.1. Variables that are already set are not
    changed.

    Args:
        launcher (str): Program that started the processes.
    """
    # These variables are not restored when a run ends. The process group outlives the run, and
    # torch reads GLOO_SOCKET_IFNAME again when a later run or an evaluation creates another group.
    # A second run of the process sets the same values, because they depend on the process alone.
    environment = os.environ
    if launcher == 'slurm':
        step = int(environment['SLURM_JOB_ID']) * 16 + int(environment.get('SLURM_STEP_ID', 0))
        environment.setdefault('MASTER_PORT', str(10_000 + step % 20_000))
        environment.setdefault('MASTER_ADDR', _first_host(environment['SLURM_JOB_NODELIST']))
        environment['RANK'] = environment['SLURM_PROCID']
        environment['LOCAL_RANK'] = environment['SLURM_LOCALID']
        environment['WORLD_SIZE'] = environment['SLURM_NTASKS']
        several = int(environment.get('SLURM_NNODES', 1)) > 1
    else:
        world = environment['WORLD_SIZE']
        several = environment.get('LOCAL_WORLD_SIZE', world) != world
    if several and (interface := interface_to(environment['MASTER_ADDR'])) is not None:
        environment.setdefault('GLOO_SOCKET_IFNAME', interface)


def _first_host(nodes: str) -> str:
    hosts = subprocess.run(
        ['scontrol', 'show', 'hostnames', nodes], check=True, capture_output=True, text=True
    )
    return hosts.stdout.split()[0]


def join_gloo(env_cfg: dict) -> None:
    """Initialize a gloo process group. MMEngine's function would bind the process to a GPU.

    Args:
        env_cfg (dict): The config's ``env_cfg``. ``dist_cfg.timeout`` is the time limit of
            collectives, in seconds.
    """
    if not distributed.is_initialized():
        distributed.init_process_group('gloo', timeout=collective_timeout(env_cfg))


def collective_timeout(env_cfg: dict) -> timedelta | None:
    """Return the time limit of collectives, or None for torch's default."""
    seconds = env_cfg.get('dist_cfg', {}).get('timeout')
    return seconds and timedelta(seconds=seconds)
