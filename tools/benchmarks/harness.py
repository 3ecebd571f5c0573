"""Measure the time and memory of several implementations of the same computation."""

import io
import os
import pickle
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import torch

# Every variant needs these packages, which are slow to import.
IMPORTS = ['mmcrosscl.models', 'mmcrosscl.datasets']


@dataclass
class Variant:
    """One implementation of a computation.

    Args:
        name (str): Label of the variant in the table.
        make (Callable): Called with ``settings`` in the variant's own process. Returns the function
            to measure.
        settings (dict): Keyword arguments of ``make``. Defaults to an empty dict.
    """

    name: str
    make: Callable[..., Callable[[], object]]
    settings: dict = field(default_factory=dict)


@dataclass
class Measured:
    """Measurements of one variant.

    Args:
        name (str): Label of the variant in the table.
        seconds (list[float]): Time of each measured run.
        peak (float): Peak memory in MB: what torch allocated on the GPU, or else the resident
            memory of the process without that of an idle process.
    """

    name: str
    seconds: list[float]
    peak: float

    def ratio(self, baseline: 'Measured') -> float:
        """Return the speedup over the baseline, as the median over the rounds."""
        return statistics.median(b / s for b, s in zip(baseline.seconds, self.seconds))

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def fork_server() -> ForkServerContext:
    """Return a context whose processes are forked from a server that has imported the packages.

    Forking such a process takes a hundredth of the time of importing the packages in a new one.
    """
    context = get_context('forkserver')
    context.set_forkserver_preload(IMPORTS)
    return context


def compare(variants: Sequence[Variant], rounds: int) -> list[Measured]:
    """Measure the variants alternately, each in its own process.

    The variants alternate, so that a change in the speed of the machine affects all of them.

    Args:
        variants (Sequence[Variant]): Variants to measure.
        rounds (int): Number of measured runs per variant, after one warm-up run.

    Returns:
        list[Measured]: Measurements of each variant, in the order of ``variants``.

    Raises:
        RuntimeError: If a variant fails.
    """
    # with a GPU, some packages initialize CUDA when they are imported, and a fork cannot use it
    context = get_context('spawn') if torch.cuda.is_available() else fork_server()
    workers = []
    for variant in variants:
        pipe, end = context.Pipe()
        process = context.Process(target=_serve, args=(end, pickle.dumps(variant)))
        process.start()
        end.close()
        workers.append((process, pipe))
    try:
        times = [[_ask(pipe) for _, pipe in workers] for _ in range(rounds + 1)][1:]
        for _, pipe in workers:
            pipe.send('stop')
        return [
            Measured(variant.name, [row[i] for row in times], pipe.recv())
            for i, (variant, (_, pipe)) in enumerate(zip(variants, workers))
        ]
    finally:
        for process, pipe in workers:
            pipe.close()
            process.join(10)
            process.kill()


def _ask(pipe) -> float:
    pipe.send('run')
    try:
        return pipe.recv()
    except EOFError:
        raise RuntimeError('a variant failed; see its error above') from None


def _serve(pipe, pickled: bytes) -> None:
    # some packages print messages when they are imported
    with redirect_stdout(io.StringIO()):
        variant: Variant = pickle.loads(pickled)
    gpu = torch.cuda.is_available()
    start = 0 if gpu else memory('VmRSS')
    run = variant.make(**variant.settings)
    while pipe.recv() == 'run':
        began = time.perf_counter()
        run()
        if gpu:
            torch.cuda.synchronize()
        pipe.send(time.perf_counter() - began)
    pipe.send(torch.cuda.max_memory_allocated() / 2**20 if gpu else memory('VmHWM') - start)


def memory(which: str) -> float:
    """Return the resident memory of this process ('VmRSS') or its peak ('VmHWM') in MB."""
    status = Path('/proc/self/status').read_text()
    return int(re.search(rf'{which}:\s+(\d+) kB', status)[1]) / 1024


def machine() -> str:
    """Return a description of the processor, the GPU if any, and the torch version."""
    cpu = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
    parts = [f'{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores']
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return f'{"; ".join(parts)}; torch {torch.__version__}'


def table(title: str, head: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Format a table in Markdown.

    Floats of 100 or more are rounded to integers, smaller floats to three significant digits.
    """

    def text(value) -> str:
        if isinstance(value, float):
            return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'
        return f'{value:,}' if isinstance(value, int) else str(value)

    lines = [title, '', *('| ' + ' | '.join(map(text, row)) + ' |' for row in (head, *rows))]
    lines.insert(3, '|' + '---|' * len(head))
    return '\n'.join(lines) + '\n'
