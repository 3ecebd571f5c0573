"""Launcher that starts the training processes of one machine with torch's elastic agent.

The module is not in the engine, because it needs only torch and starts faster without the other
packages.
"""

import hashlib
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Iterable, Sequence

from torch.distributed.elastic.agent.server import WorkerGroup, WorkerState
from torch.distributed.elastic.agent.server.api import DEFAULT_ROLE, RunResult, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.api import SubprocessContext
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from mmcrosscl.compat.elastic import build_agent, handle_signal
from mmcrosscl.errors import (
    EXIT_INPUT,
    EXIT_NON_FINITE,
    EXIT_PREEMPTED,
    EXIT_RETRY,
    EXIT_USAGE,
    PREEMPTING,
    InputError,
    RunError,
)
from mmcrosscl.network import is_this_machine, port_is_free

# Exit statuses after which a restart cannot help.
FINAL = (EXIT_INPUT, EXIT_USAGE, EXIT_NON_FINITE, EXIT_PREEMPTED)
# seconds that machines wait for each other, which is also the default of torch's rendezvous
JOIN_TIMEOUT = 600


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `mmcrosscl train ARGUMENTS` in several processes, and return the exit status.

    If a process dies, all processes are restarted from the newest checkpoint of the run, at most
    ``MAX_RESTARTS`` (default: 3) times. An input error, NaN/Inf or a preemption ends the job
    without a restart. SIGTERM and SIGUSR1 are forwarded to the processes, which then save a
    checkpoint. The exit status is 75 if all processes have ended with a saved checkpoint, or before
    they began to train. A process that has not ended after ``GRACE`` (default: 120) seconds is
    killed, and the exit status is 74.

    To train on several machines, set the environment variables NNODES, MASTER_ADDR and PORT, and
    run the same command on each machine. The machine with the address MASTER_ADDR has rank 0.
    NODE_RANK, the number of a machine from 0, overrides the search for this address.

    Args:
        arguments (Sequence[str]): Arguments of `mmcrosscl train`.
        processes (int): Number of processes on this machine.

    Raises:
        InputError: If the number of processes or machines is below 1, if a variable is not an
            integer, if MASTER_ADDR is missing or cannot be resolved, or if the port is in use.
        RunError: If the machines cannot connect to each other, or if another machine ended the job.
    """
    machines = _number('NNODES', 1)
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
    # The agent reads from this variable which signals it forwards.
    os.environ['TORCHELASTIC_SIGNALS_TO_HANDLE'] = 'SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1'
    for number in PREEMPTING:
        handle_signal(number)
    agent: _Agent | None = None
    try:
        rendezvous = _one_machine() if machines == 1 else _several_machines(machines, arguments)
        spec = WorkerSpec(
            role='train',
            local_world_size=processes,
            entrypoint=sys.executable,
            args=('-u', '-m', 'mmcrosscl', 'train', *arguments),
            rdzv_handler=get_rendezvous_handler(rendezvous),
            max_restarts=_number('MAX_RESTARTS', 3),
            local_addr=rendezvous.local_addr,
        )
        agent = build_agent(_Agent, spec)
        result = agent.run()
    except SignalException as stop:
        if stop.sigval not in PREEMPTING:
            return 128 + stop.sigval
        return _status_after(stop.sigval, agent.statuses() if agent else [])
    except RendezvousError as error:
        if agent is None or not agent.statuses():
            raise RunError(
                f'the {machines} machines could not connect to each other ({error}); check that '
                'the command, NNODES, MASTER_ADDR and PORT are the same on all machines, and that '
                'the port is reachable'
            ) from error
        result = None
    # the agent also returns None if another machine has ended the job
    if result is None:
        # a preempted machine leaves as soon as all processes have saved the checkpoint
        if set(agent.statuses()) == {EXIT_PREEMPTED}:
            return EXIT_PREEMPTED
        raise RunError('another machine has left the job; see the output of the other machines')
    # the shutdown ends the launchers of the other machines, too
    spec.rdzv_handler.shutdown()
    # the exit code of a process that a signal has ended is the negative number of the signal
    statuses = [failure.exitcode for failure in result.failures.values()]
    return max((s if s > 0 else 128 - s for s in statuses), default=0)


def _one_machine() -> RendezvousParameters:
    # A free port and a unique id, so that jobs do not connect to each other.
    return RendezvousParameters(
        backend='c10d',
        endpoint='localhost:0',
        run_id=uuid.uuid4().hex,
        min_nodes=1,
        max_nodes=1,
        local_addr='127.0.0.1',
    )


def _several_machines(machines: int, arguments: Sequence[str]) -> RendezvousParameters:
    master = os.environ.get('MASTER_ADDR')
    rank = _number('NODE_RANK') if 'NODE_RANK' in os.environ else None
    port = _number('PORT', 29500)
    if master is None:
        raise InputError(
            f'NNODES={machines} needs MASTER_ADDR; set it to the address of one of the machines'
        )
    try:
        # torch would compare the address with those of the host name, which may be 127.0.1.1
        is_host = is_this_machine(master) if rank is None else rank == 0
    except OSError as error:
        raise InputError(
            f'MASTER_ADDR={master} cannot be resolved ({error.strerror or error}); set it to the '
            'IP address of one of the machines'
        ) from error
    if not is_host:
        _wait_for(master, port)
    elif not port_is_free(port):
        raise InputError(
            f'port {port} of this machine is in use, perhaps by another job; set PORT to a free '
            'port on all machines'
        )
    # jobs with other arguments do not join by mistake
    job = hashlib.sha256('\0'.join(arguments).encode()).hexdigest()
    return RendezvousParameters(
        backend='c10d',
        endpoint=f'{master}:{port}',
        run_id=os.environ.get('RUN_ID', job[:16]),
        min_nodes=machines,
        max_nodes=machines,
        # torch sorts the machines by these texts, and connects to the first one. The tilde comes
        # after the characters of an address.
        local_addr=master if is_host else f'~{rank or 0:08}{socket.gethostname()}',
        is_host=is_host,
    )


def _wait_for(host: str, port: int) -> None:
    """Wait until a port is open. torch would wait for 60 seconds only."""
    deadline = time.monotonic() + JOIN_TIMEOUT
    print(f'[mmcrosscl] connecting to {host}:{port}', file=sys.stderr, flush=True)
    while True:
        try:
            socket.create_connection((host, port), timeout=10).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise RunError(
                    f'no connection to {host}:{port} within {JOIN_TIMEOUT} seconds ({error}); '
                    'check MASTER_ADDR, PORT and the firewall, and run the same command on the '
                    'machine with this address'
                ) from error
        time.sleep(1)


def _number(variable: str, default: int = 0) -> int:
    value = os.environ.get(variable, default)
    try:
        return int(value)
    except ValueError as error:
        raise InputError(f'{variable}={value} is not an integer; correct or unset it') from error


def _status_after(number: int, statuses: Iterable[int | None]) -> int:
    """Return the exit status of the job after a signal.

    A process whose status is the signal ended before it began to train.
    """
    statuses = list(statuses)
    if statuses and set(statuses) == {0}:
        return 0
    unsaved = [s for s in statuses if s not in (0, EXIT_PREEMPTED, -number)]
    if not unsaved:
        return EXIT_PREEMPTED
    print(
        f'[mmcrosscl] {len(unsaved)} of {len(statuses)} processes ended without a saved '
        f'checkpoint (statuses {unsaved}); a process that needs more than GRACE seconds to save is '
        'killed; rerun with --resume',
        file=sys.stderr,
        flush=True,
    )
    return EXIT_RETRY


class _FinalStatus(Exception):
    """Stops the agent and carries the failure that ends the job."""

    def __init__(self, rank: int, failure: ProcessFailure) -> None:
        super().__init__(failure.exitcode)
        self.rank, self.failure = rank, failure


class _Agent(LocalElasticAgent):
    """An agent of torch that does not restart processes whose exit status is in FINAL.

    After a signal that preempts the job, the processes have ``GRACE`` seconds to end.
    """

    # torch has no public access to the processes and to the time that they have after a signal

    def statuses(self) -> list[int | None]:
        """Return the exit statuses of the processes that were started last."""
        if not isinstance(self._pcontext, SubprocessContext):
            return []
        return [handler.proc.poll() for handler in self._pcontext.subprocess_handlers.values()]

    def _invoke_run(self, role: str = DEFAULT_ROLE) -> RunResult:
        try:
            return super()._invoke_run(role)
        except SignalException as stop:
            if stop.sigval in PREEMPTING and self._pcontext is not None:
                # schedulers repeat the signal
                for number in PREEMPTING:
                    signal.signal(number, signal.SIG_IGN)
                self._pcontext.close(stop.sigval, timeout=_number('GRACE', 120))
            raise
        except _FinalStatus as final:
            return RunResult(WorkerState.FAILED, failures={final.rank: final.failure})

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
                raise _FinalStatus(rank, failure)
        return result
