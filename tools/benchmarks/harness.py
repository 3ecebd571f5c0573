"""Time variants of the same computation in turn, each in its own process."""

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
from pathlib import Path

import torch

# of all variants and slow
IMPORTS = ['mmpretrain', 'mmcrosscl.models', 'mmcrosscl.datasets']


@dataclass
class Variant:
    """One implementation of the computation.

    Args:
        name (str): Its row in the table.
        make (Callable): Called in the variant's process with ``settings``; returns the function to
            time.
        settings (dict): Defaults to none.
    """

    name: str
    make: Callable[..., Callable[[], object]]
    settings: dict = field(default_factory=dict)


@dataclass
class Measured:
    """Seconds of each round, and the peak memory above that of an idle process, in MB."""

    name: str
    seconds: list[float]
    peak: float

    def ratio(self, baseline: 'Measured') -> float:
        """Return the speed relative to the baseline, as the median over the rounds."""
        return statistics.median(b / s for b, s in zip(baseline.seconds, self.seconds))

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def compare(variants: Sequence[Variant], rounds: int) -> list[Measured]:
    """Time the variants in turn, so that a change of the machine's speed affects all of them.

    Args:
        variants (Sequence[Variant]): The baseline first.
        rounds (int): Times that each is measured, after one run that is not.

    Returns:
        list[Measured]: One per variant.

    Raises:
        RuntimeError: If a variant fails.
    """
    # a server that has imported the packages forks a process in a hundredth of the time
    context = get_context('forkserver')
    context.set_forkserver_preload(IMPORTS)
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
        raise RuntimeError('a variant failed; its error is above') from None


def _serve(pipe, pickled: bytes) -> None:
    # packages print messages when they are imported
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
    """Return 'VmRSS', the resident memory of this process, or 'VmHWM', its peak, in MB."""
    status = Path('/proc/self/status').read_text()
    return int(re.search(rf'{which}:\s+(\d+) kB', status)[1]) / 1024


def machine() -> str:
    """Describe the machine and the release of torch."""
    cpu = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
    words = [f'{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores']
    if torch.cuda.is_available():
        words.append(torch.cuda.get_device_name())
    return f'{"; ".join(words)}; torch {torch.__version__}'


def table(title: str, head: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Format a table in Markdown; floats are rounded to three digits or to integers."""

    def text(value) -> str:
        if isinstance(value, float):
            return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'
        return f'{value:,}' if isinstance(value, int) else str(value)

    lines = [title, '', *('| ' + ' | '.join(map(text, row)) + ' |' for row in (head, *rows))]
    lines.insert(3, '|' + '---|' * len(head))
    return '\n'.join(lines) + '\n'
