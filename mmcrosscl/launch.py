"""Launcher that starts the training processes of one machine with torch's elastic agent.

The module is not in the engine, because it needs only torch and starts faster without the other
packages.
"""

import os
import signal
import sys
import uuid
from collections.abc import Sequence

from torch.distributed.elastic.agent.server import WorkerGroup
from torch.distributed.elastic.agent.server.api import RunResult, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from mmcrosscl.compat.elastic import build_agent, handle_signal
from mmcrosscl.errors import EXIT_INPUT, EXIT_PREEMPTED, PREEMPTING, InputError, RunError

# Exit statuses after which a restart cannot help.
FINAL = (EXIT_INPUT, EXIT_PREEMPTED)


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `mmcrosscl train ARGUMENTS` in several processes, and return the exit status.

    If a process dies, all processes are restarted from the newest checkpoint of the run, at most
    ``MAX_RESTARTS`` (default: 3) times. An input error, NaN/Inf or a preemption ends the job
    without a restart. SIGTERM and SIGUSR1 are forwarded to the processes. The processes then save a
    checkpoint, and the exit status is 75.

    To train on several machines, set the environment variables NNODES, MASTER_ADDR and PORT, and
    run the same command on each machine.

    Args:
        arguments (Sequence[str]): Arguments of `mmcrosscl train`.
        processes (int): Number of processes on this machine.

    Raises:
        InputError: If the number of processes or machines is below 1.
        RunError: If the machines cannot connect to each other.
    """
    machines = int(os.environ.get('NNODES', 1))
    if processes < 1 or machines < 1:
        raise InputError(
            f'expected at least 1 process and 1 machine, but got --gpus {processes} and '
            f'NNODES={machines}; set both to at least 1'
        )
    # torchrun does the same, so that the processes do not compete for the CPU cores
    if processes > 1:
        os.environ.setdefault('OMP_NUM_THREADS', '1')
    # With a shared store, restarted processes would connect to the addresses of dead processes.
    os.environ['TORCH_DISABLE_SHARE_RDZV_TCP_STORE'] = '1'
    os.environ['TORCHELASTIC_SIGNALS_TO_HANDLE'] = 'SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1'
    handle_signal(signal.SIGUSR1)
    spec = _worker_spec(arguments, processes, machines)
    try:
        failures = build_agent(_Agent, spec).run().failures
    except SignalException as stop:
        return EXIT_PREEMPTED if stop.sigval in PREEMPTING else 128 + stop.sigval
    except RendezvousError as error:
        raise RunError(
            f'the {machines} machines could not connect to each other ({error}); check that '
            'MASTER_ADDR and PORT are the same on all machines, and that the port is free and '
            'reachable'
        ) from error
    except _FinalStatus as final:
        failures = {0: final.failure}
    # the shutdown ends the launchers of the other machines, too
    spec.rdzv_handler.shutdown()
    # the exit code of a process that a signal has ended is the negative number of the signal
    statuses = [failure.exitcode for failure in failures.values()]
    return max((s if s > 0 else 128 - s for s in statuses), default=0)


def _worker_spec(arguments: Sequence[str], processes: int, machines: int) -> WorkerSpec:
    single = machines == 1
    # A job on one machine uses a free port and a unique id, so that jobs do not connect to each
    # other.
    endpoint = 'localhost:0'
    if not single:
        master = os.environ.get('MASTER_ADDR', '127.0.0.1')
        endpoint = f'{master}:{os.environ.get("PORT", 29500)}'
    address = '127.0.0.1' if single else None
    parameters = RendezvousParameters(
        backend='c10d',
        endpoint=endpoint,
        run_id=uuid.uuid4().hex if single else os.environ.get('RUN_ID', 'mmcrosscl'),
        min_nodes=machines,
        max_nodes=machines,
        local_addr=address,
    )
    return WorkerSpec(
        role='train',
        local_world_size=processes,
        entrypoint=sys.executable,
        args=('-u', '-m', 'mmcrosscl', 'train', *arguments),
        rdzv_handler=get_rendezvous_handler(parameters),
        max_restarts=int(os.environ.get('MAX_RESTARTS', 3)),
        local_addr=address,
    )


class _FinalStatus(Exception):
    """Stops the agent and carries the failure that ends the job."""

    def __init__(self, failure: ProcessFailure) -> None:
        super().__init__(failure.exitcode)
        self.failure = failure


class _Agent(LocalElasticAgent):
    """An agent of torch that does not restart processes whose exit status is in FINAL."""

    # torch documents that subclasses override this method, which runs several times per second
    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        for rank, failure in result.failures.items():
            print(
                f'[mmcrosscl] training process {rank} ended with status {failure.exitcode}',
                file=sys.stderr,
                flush=True,
            )
            if failure.exitcode in FINAL:
                raise _FinalStatus(failure)
        return result
