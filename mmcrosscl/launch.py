"""Starts the training processes of one machine with torch's elastic agent.

Not in the engine: the launcher needs torch alone, and starts sooner without the other packages.
"""

import os
import sys
import uuid
from collections.abc import Sequence

from torch.distributed.elastic.agent.server import WorkerGroup
from torch.distributed.elastic.agent.server.api import RunResult, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from mmcrosscl.errors import EXIT_INPUT, EXIT_PREEMPTED, PREEMPTING, InputError, RunError

# A restart cannot help after these.
FINAL = (EXIT_INPUT, EXIT_PREEMPTED)


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `mmcrosscl train ARGUMENTS` in several processes, and return the exit status.

    When a process dies, all are restarted, at most ``MAX_RESTARTS`` (3) times, from the newest
    checkpoint of the run. An input error, NaN/Inf or a preemption is final. SIGTERM and SIGUSR1
    are passed on; the processes save a checkpoint, and the exit status is 75.

    For several machines, run the same command on each, with NNODES, MASTER_ADDR and PORT set in the
    environment.

    Args:
        arguments (Sequence[str]): Of `mmcrosscl train`.
        processes (int): How many on this machine.

    Raises:
        InputError: If the number of processes or machines is not positive.
        RunError: If the machines do not find each other.
    """
    machines = int(os.environ.get('NNODES', 1))
    if processes < 1 or machines < 1:
        raise InputError(f'{processes} processes on {machines} machines; give at least 1 of each')
    # as torchrun does, so that processes do not compete for the cores
    if processes > 1:
        os.environ.setdefault('OMP_NUM_THREADS', '1')
    # A shared store keeps the addresses of dead processes, to which restarted ones would connect.
    os.environ['TORCH_DISABLE_SHARE_RDZV_TCP_STORE'] = '1'
    os.environ['TORCHELASTIC_SIGNALS_TO_HANDLE'] = 'SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1'
    spec = _worker_spec(arguments, processes, machines)
    try:
        failures = _Agent(spec, DefaultLogsSpecs()).run().failures
    except SignalException as stop:
        return EXIT_PREEMPTED if stop.sigval in PREEMPTING else 128 + stop.sigval
    except RendezvousError as error:
        raise RunError(
            f'the {machines} machines did not meet ({error}); check that MASTER_ADDR and PORT are '
            'the same on all, and that the port is free and reachable'
        ) from error
    except _FinalStatus as final:
        failures = {0: final.failure}
    # lets other machines end too
    spec.rdzv_handler.shutdown()
    # a process that a signal ended has the negative number of the signal
    statuses = [failure.exitcode for failure in failures.values()]
    return max((s if s > 0 else 128 - s for s in statuses), default=0)


def _worker_spec(arguments: Sequence[str], processes: int, machines: int) -> WorkerSpec:
    alone = machines == 1
    # One machine gets a free port and a name of its own, so that jobs do not meet.
    endpoint = 'localhost:0'
    if not alone:
        master = os.environ.get('MASTER_ADDR', '127.0.0.1')
        endpoint = f'{master}:{os.environ.get("PORT", 29500)}'
    address = '127.0.0.1' if alone else None
    parameters = RendezvousParameters(
        backend='c10d',
        endpoint=endpoint,
        run_id=uuid.uuid4().hex if alone else os.environ.get('RUN_ID', 'mmcrosscl'),
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
    """Carries the failure that ends the job out of the agent."""

    def __init__(self, failure: ProcessFailure) -> None:
        super().__init__(failure.exitcode)
        self.failure = failure


class _Agent(LocalElasticAgent):
    """torch's agent, which does not restart processes whose exit status is final."""

    # torch documents this method as the one to override; it is called every fraction of a second
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
