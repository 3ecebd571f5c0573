"""Benchmark of the batch shuffle for the key encoder: time, and bytes that a process receives."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmpretrain.models.utils import batch_shuffle_ddp, batch_unshuffle_ddp
from torch import Tensor, distributed, multiprocessing

from mmcrosscl.models.communication import BatchShuffle

from .harness import fork_server, table

# shapes per image: a view of 224 × 224 pixels; its global vector, P4 and P3
VIEW, FEATURES = (3, 224, 224), ((128,), (256, 14, 14), (256, 28, 28))
IMAGE_BYTES = 4 * sum(math.prod(shape) for shape in (VIEW, *FEATURES))


def report(rounds: int, images: int, processes: int) -> str:
    """Compare mmcrosscl's batch shuffle with MMPretrain's, which gathers the batches of all ranks.

    The first table is measured between gloo processes. The second table is computed by
    :func:`gathered_bytes` and :func:`shuffled_bytes`, for more ranks.

    Args:
        rounds (int): Number of times that a batch is shuffled.
        images (int): Number of images per process.
        processes (int): Number of processes.
    """
    with TemporaryDirectory() as folder:
        method = fork_server().get_start_method()
        multiprocessing.start_processes(
            measure, (processes, images, rounds, folder), processes, start_method=method
        )
        results = [
            torch.load(f'{folder}/{rank}.pth', weights_only=True) for rank in range(processes)
        ]
    rows = []
    for name, formula in (('gather everything', gathered_bytes), ('mmcrosscl', shuffled_bytes)):
        received = sum(result[name]['bytes'] for result in results) / processes / rounds
        seconds = max(result[name]['seconds'] for result in results) / rounds
        rows.append(
            [
                name,
                received / 2**20,
                formula(processes, images, IMAGE_BYTES) / 2**20,
                1000 * seconds,
            ]
        )
    first = table(
        f'Communication: batch shuffle of {processes} gloo processes, {images} images each, fp32',
        ['', 'MB received per step', 'MB by the formula', 'ms per step', 'MB ratio'],
        [[*row, row[1] / rows[0][1]] for row in rows],
    )
    rows = []
    for world in (8, 64, 512):
        everything, shuffled = (
            formula(world, 32, IMAGE_BYTES) / 2**20 for formula in (gathered_bytes, shuffled_bytes)
        )
        rows.append([world, everything, shuffled, f'{100 * shuffled / everything:.2g} %'])
    second = table(
        'MB that a rank receives per step, by the formula: 32 images per rank, fp32',
        ['ranks', 'gather everything', 'mmcrosscl', '% of gathering'],
        rows,
    )
    return first + '\n' + second


def gathered_bytes(world: int, images: int, size: int) -> int:
    """Return the bytes that a rank receives when each image is sent to all other ranks.

    Args:
        world (int): Number of ranks.
        images (int): Number of images per rank.
        size (int): Bytes per image.
    """
    return images * (world - 1) * size


def shuffled_bytes(world: int, images: int, size: int) -> float:
    """Return the mean bytes that a rank receives when each image is sent to one random rank.

    See :func:`gathered_bytes` for the arguments.
    """
    return images * (world - 1) / world * size


@contextmanager
def received_bytes() -> Iterator[list[int]]:
    """Yield a list of the bytes that each collective call receives from other processes."""
    rank = distributed.get_rank()
    counts: list[int] = []
    originals = {
        name: getattr(distributed, name)
        for name in ('all_to_all_single', 'all_gather_into_tensor', 'all_gather')
    }

    def all_to_all_single(output, sent, received=None, *args, **kwargs):
        own = received[rank] if received else len(output) // distributed.get_world_size()
        counts.append(output[own:].nbytes)
        return originals['all_to_all_single'](output, sent, received, *args, **kwargs)

    def all_gather_into_tensor(output, sent, *args, **kwargs):
        counts.append(output.nbytes - sent.nbytes)
        return originals['all_gather_into_tensor'](output, sent, *args, **kwargs)

    def all_gather(outputs, sent, *args, **kwargs):
        counts.append(sum(x.nbytes for x in outputs) - sent.nbytes)
        return originals['all_gather'](outputs, sent, *args, **kwargs)

    for function in (all_to_all_single, all_gather_into_tensor, all_gather):
        setattr(distributed, function.__name__, function)
    try:
        yield counts
    finally:
        for name, function in originals.items():
            setattr(distributed, name, function)


def gather_everything(view: Tensor, encode: Callable, _: int) -> list[Tensor]:
    """Shuffle a batch, encode it and restore its order as MMPretrain does."""
    view, restore = batch_shuffle_ddp(view)
    return [batch_unshuffle_ddp(x, restore) for x in encode(view)]


def exchange(view: Tensor, encode: Callable, step: int) -> list[Tensor]:
    """Shuffle a batch, encode it and restore its order as mmcrosscl's key encoder does."""
    shuffle = BatchShuffle(len(view), step, view.device)
    returning = [shuffle.start_restore(x) for x in encode(shuffle.shuffle(view))]
    return [wait() for wait in returning]


def measure(rank: int, world: int, images: int, rounds: int, folder: str) -> None:
    """Run both variants on one rank, and save their bytes and seconds to the folder."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/group', rank=rank, world_size=world
    )
    view = torch.randn(images, *VIEW)
    features = [torch.randn(images, *shape) for shape in FEATURES]
    results = {}
    for name, function in (('gather everything', gather_everything), ('mmcrosscl', exchange)):
        distributed.barrier()
        began = time.perf_counter()
        with received_bytes() as counts:
            for step in range(rounds):
                function(view, lambda _: features, step)
        results[name] = dict(bytes=sum(counts), seconds=time.perf_counter() - began)
    torch.save(results, Path(folder, f'{rank}.pth'))
    # gloo of old torch hangs if a process leaves the group after the others have ended
    distributed.barrier()
    distributed.destroy_process_group()
