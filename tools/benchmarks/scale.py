"""Benchmark of what can grow with the iterations of a run or with the images of a dataset."""

import gc
import io
import math
import os
import pickle
import re
import stat as stat_module
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from unittest import mock

import numpy as np
from mmengine.dataset import BaseDataset, DefaultSampler
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import LogProcessor

from mmcrosscl.datasets import SeededSampler, UnlabeledDataset, folders, write_shards
from mmcrosscl.datasets.storage import RangeReader
from mmcrosscl.engine.runner import ScalarHistoryHook

from .harness import fork_server, memory, table
from .loader import write_photos

SCALARS = 16
# images per sub-folder of a simulated folder
FOLDER = 1000
# images per tar file, and adjacent images that are read in sequence
SHARD, BLOCK = 1000, 100
# a measurement returns its figures by the title of their row
Measurement = Callable[..., dict[str, float]]


def report(rounds: int, iterations: int, images: int, files: int) -> str:
    """Measure the time and memory for growing numbers, and print the exponents of the growth.

    An exponent is the slope between the two largest numbers on logarithmic scales: 0 for a constant
    and 1 for linear growth.

    Args:
        rounds (int): Number of processes for each figure, which is their median.
        iterations (int): Largest number of iterations.
        images (int): Largest number of images in an index and in an order. Their folder is
            simulated: its entries are generated instead of read.
        files (int): Largest number of image files, which are written and read.
    """
    every = math.inf
    return '\n'.join(
        [
            _table(
                f'Logging of {SCALARS} scalars after n iterations',
                _powers(1000, iterations),
                [
                    ('MMEngine', every, log_scalars, dict(limited=False)),
                    ('mmcrosscl', every, log_scalars, dict(limited=True)),
                ],
                rounds,
            ),
            _table(
                'Start of a process with n images in a simulated folder',
                _powers(10_000, images),
                [
                    ('list of images (MMEngine)', 10**6, list_images, {}),
                    ('mmcrosscl, which writes the index', every, write_index, {}),
                    ('mmcrosscl, later', every, open_index, {}),
                ],
                rounds,
            ),
            _table(
                'Resume in the middle of an epoch of n images, until the first index',
                _powers(10_000, images),
                [
                    ('list of indices (MMEngine)', 10**7, resume, dict(sampler=DefaultSampler)),
                    ('mmcrosscl', every, resume, dict(sampler=SeededSampler)),
                ],
                rounds,
            ),
            _table(
                'Reading of n JPEGs of 500×375 that are not cached, one process, local disk',
                _powers(100, files),
                [
                    ('files', every, read, dict(shards=False, block_size=None)),
                    ('tar files', every, read, dict(shards=True, block_size=None)),
                    (
                        'tar files, order of blocks',
                        every,
                        read,
                        dict(shards=True, block_size=BLOCK),
                    ),
                ],
                rounds,
            ),
        ]
    )


def log_scalars(n: int, limited: bool) -> dict[str, float]:
    """Add a value to the histories of scalars with n values."""
    hub = MessageHub('benchmark')
    names = [f'train/scalar_{number}' for number in range(SCALARS)]
    for name in names:
        hub.log_scalars[name] = HistoryBuffer(np.zeros(n), np.ones(n))
    runner = SimpleNamespace(
        message_hub=hub, log_processor=LogProcessor(), train_dataloader=range(1000)
    )
    hook = ScalarHistoryHook()
    hook.before_train(runner)

    def step() -> None:
        for name in names:
            hub.update_scalar(name, 1.0)
        if limited:
            hook.after_train_iter(runner, 0)

    step()
    return {
        'ms per iteration': 1000 * min(_seconds(step) for _ in range(10)),
        'MB in a checkpoint': len(pickle.dumps(hub.state_dict())) / 2**20,
    }


def list_images(n: int) -> dict[str, float]:
    """Build a dataset whose list of images is in the memory of each process."""

    class Listed(BaseDataset):
        def load_data_list(self) -> list[dict]:
            found = folders.search_folder('/simulated', lambda name: True, [])
            return [dict(img_path=f'/simulated/{name}') for name in found]

    with simulated_folder(n):
        return _start(Listed)


def write_index(n: int) -> dict[str, float]:
    """Build a dataset whose images are not indexed yet."""
    with simulated_folder(n):
        return _start(lambda: UnlabeledDataset('/simulated'))


def open_index(n: int) -> dict[str, float]:
    """Build a dataset whose images are indexed."""
    writer = get_context('fork').Process(target=write_index, args=(n,))
    writer.start()
    writer.join()
    return write_index(n)


def resume(n: int, sampler: type) -> dict[str, float]:
    """Iterate from the middle of an epoch."""
    order = sampler(range(n), seed=0)

    def first() -> int:
        if isinstance(order, SeededSampler):
            order.start = n // 2
            return next(iter(order))
        return next(index for row, index in enumerate(order) if row >= n // 2)

    return _start(first)


def read(n: int, shards: bool, block_size: int | None) -> dict[str, float]:
    """Read the bytes of all images in the order of a sampler."""
    with TemporaryDirectory() as temporary:
        folder = write_photos(Path(temporary, 'files'), 500, 375, n)
        if shards:
            files = UnlabeledDataset(str(folder))
            write_shards(files, Path(temporary, 'shards'), images_per_shard=SHARD)
            folder = Path(temporary, 'shards')
        dataset, reader = UnlabeledDataset(str(folder)), RangeReader()
        infos = [dataset.get_data_info(i) for i in SeededSampler(dataset, block_size, seed=0)]
        for path in folder.iterdir():
            with path.open('rb') as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        def every() -> None:
            for info in infos:
                if shards:
                    reader.read(*info['byte_range'])
                else:
                    Path(info['img_path']).read_bytes()

        return {'ms per image': 1000 * _seconds(every) / n}


@contextmanager
def simulated_folder(n: int) -> Iterator[None]:
    """Replace the functions that read folders: '/simulated' has n images in sub-folders."""
    parents = [f'{number:06d}/' for number in range(-(-n // FOLDER))]
    real_stat = os.stat

    def stat(path: str, **kwargs) -> object:
        if not str(path).startswith('/simulated'):
            return real_stat(path, **kwargs)
        return SimpleNamespace(
            st_mtime_ns=1, st_size=0, st_dev=0, st_ino=hash(path), st_mode=stat_module.S_IFDIR
        )

    def entries(path: str, is_image: Callable[[str], bool]) -> Iterator[str]:
        if path.rstrip('/') == '/simulated':
            return iter(parents)
        first = FOLDER * int(path.rstrip('/').rpartition('/')[2])
        return (f'{number:09d}.jpg' for number in range(first, min(first + FOLDER, n)))

    with (
        mock.patch.object(folders, '_entries', entries),
        mock.patch.object(os, 'stat', stat),
    ):
        yield


def _start(function: Callable[[], object]) -> dict[str, float]:
    # garbage collection writes to the memory that the process shares with the fork server
    gc.collect()
    private, resident = _private_memory(), memory('VmRSS')
    # the peak is reset, because importing the packages has a higher one
    Path('/proc/self/clear_refs').write_text('5')
    began = time.perf_counter()
    # the result must exist while the memory is read
    result = function()
    seconds = time.perf_counter() - began
    figures = {
        's': seconds,
        'private MB': max(_private_memory() - private, 0),
        'peak MB': max(memory('VmHWM') - resident, 0),
    }
    del result
    return figures


def _private_memory() -> float:
    """Return the memory of this process in MB that it does not share."""
    text = Path('/proc/self/smaps_rollup').read_text()
    return sum(map(int, re.findall(r'Private_\w+:\s+(\d+) kB', text))) / 1024


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _powers(smallest: int, largest: int) -> list[int]:
    """Return the powers of ten from ``smallest`` to ``largest``."""
    return [10**e for e in range(12) if min(smallest, largest) <= 10**e <= largest]


def _table(
    title: str,
    sizes: Sequence[int],
    variants: Sequence[tuple[str, float, Measurement, dict]],
    rounds: int,
) -> str:
    """Measure the variants up to their largest size, and return a table."""
    measured = [
        {n: _measure(function, n, settings, rounds) for n in sizes if n <= largest}
        for _, largest, function, settings in variants
    ]
    rows = []
    for figure in next(iter(measured[0].values())):
        for (name, *_), by_size in zip(variants, measured):
            values = {n: figures[figure] for n, figures in by_size.items()}
            common = max(measured[0])
            ratio = measured[0][common][figure] / max(values[common], 1e-9)
            cells = [values.get(n, '—') for n in sizes]
            rows.append([f'{name}: {figure}', *cells, _exponent(values), ratio])
    head = ['', *(f'n = {n:,}' for n in sizes), 'exponent', f'{max(measured[0]):,}: ratio']
    return table(title, head, rows)


def _exponent(values: dict[int, float]) -> float | str:
    if len(values) < 2:
        return '—'
    first, second = sorted(values)[-2:]
    # a figure can be 0, such as memory that did not change
    low, high = max(values[first], 1e-9), max(values[second], 1e-9)
    return math.log(high / low) / math.log(second / first)


def _measure(function: Measurement, n: int, settings: dict, rounds: int) -> dict[str, float]:
    """Return the medians over processes, each with an empty folder for indexes."""
    context = fork_server()
    results = []
    for _ in range(rounds):
        with TemporaryDirectory() as cache:
            pipe, end = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(end, cache, function, n, settings))
            process.start()
            end.close()
            try:
                results.append(pipe.recv())
            except EOFError:
                raise RuntimeError(f'{function.__name__} failed; see its error above') from None
            process.join()
    return {name: median(result[name] for result in results) for name in results[0]}


def _run(pipe, cache: str, function: Measurement, n: int, settings: dict) -> None:
    os.environ['MMCROSSCL_CACHE'] = cache
    with redirect_stdout(io.StringIO()):
        figures = function(n, **settings)
    pipe.send(figures)
