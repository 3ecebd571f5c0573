"""torch's elastic agent, whose arguments and signals depend on the release."""

import signal
from types import FrameType
from typing import TypeVar

from torch.distributed.elastic.agent.server import WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import SignalException

try:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
# before torch 2.3, the agent takes no specification of logs
except ImportError:
    DefaultLogsSpecs = None  # type: ignore[assignment,misc]


Agent = TypeVar('Agent', bound=LocalElasticAgent)


def build_agent(agent: type[Agent], spec: WorkerSpec) -> Agent:
    """Build an agent with the default logs."""
    if DefaultLogsSpecs is None:
        return agent(spec)  # type: ignore[call-arg]
    return agent(spec, DefaultLogsSpecs())


def handle_signal(number: signal.Signals) -> None:
    """Let the agent end its processes on a signal.

    The agent sets its own handlers when it starts processes. Those of older releases do not include
    SIGUSR1, and this handler remains.
    """

    def stop(received: int, frame: FrameType | None) -> None:
        raise SignalException('the launcher got a signal', sigval=signal.Signals(received))

    signal.signal(number, stop)
