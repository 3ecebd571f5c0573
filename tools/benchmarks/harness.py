"""Runs variants of one thing in turn, each in a process of its own, and compares them."""

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


@dataclass
class Variant:
    """One way to do the thing.

    Args:
        name (str): For the table.
        make (Callable): Called in the variant's process with ``settings``; gives what is timed.
        settings (dict): Defaults to none.
    """

    name: str
    make: Callable[..., Callable[[], object]]
    settings: dict = field(default_factory=dict)


@dataclass
class Measured:
    """Seconds, each round's, and the most memory above that of an idle process, in MB."""

    name: str
    seconds: list[float]
    peak: float

    def ratio(self, baseline: 'Measured') -> float:
        """How many times as fast as the baseline: the median over the rounds."""
        return statistics.median(b / s for b, s in zip(baseline.seconds, self.seconds))

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def compare(variants: Sequence[Variant], rounds: int) -> list[Measured]:
    """Time the variants in turn, so that a machine that slows down slows all of them.

    Args:
        variants (Sequence[Variant]): The baseline first.
        rounds (int): How often each is timed, after one run that is not.

    Returns:
        list[Measured]: One for each variant.

    Raises:
        RuntimeError: If a variant fails.
    """
    context = get_context('spawn')
    workers = []
    for variant in variants:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, pickle.dumps(variant)))
        process.start()
        theirs.close()
        workers.append((process, ours))
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
        raise RuntimeError('a variant failed; its error stands above') from None


def _serve(pipe, pickled: bytes) -> None:
    # packages say things when they are imported
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
    """A figure of this process in MB: 'VmRSS', resident now, or 'VmHWM', the most so far."""
    status = Path('/proc/self/status').read_text()
    return int(re.search(rf'{which}:\s+(\d+) kB', status)[1]) / 1024


def machine() -> str:
    """What the figures were measured on."""
    cpu = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
    words = [f'{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores']
    if torch.cuda.is_available():
        words.append(torch.cuda.get_device_name())
    return f'{"; ".join(words)}; torch {torch.__version__}'


def table(title: str, head: Sequence[str], rows: Sequence[Sequence]) -> str:
    """A table in Markdown; numbers are rounded to what they are good for."""

    def text(value) -> str:
        if isinstance(value, float):
            return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'
        return f'{value:,}' if isinstance(value, int) else str(value)

    lines = [title, '', *('| ' + ' | '.join(map(text, row)) + ' |' for row in (head, *rows))]
    lines.insert(3, '|' + '---|' * len(head))
    return '\n'.join(lines) + '\n'
