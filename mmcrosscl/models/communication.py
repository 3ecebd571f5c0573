"""Transfers to the device and between processes: shuffled batches and gathered keys."""

from collections.abc import Callable
from functools import partial

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, distributed


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor from host memory to a device without synchronization."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == 'cuda' else x.to(device)


def start_gather(x: Tensor) -> Callable[[], Tensor]:
    """Start to gather a tensor of every process, asynchronously.

    Args:
        x (Tensor): (N, ...), of the same shape on every rank, without gradient.

    Returns:
        Callable: Waits and returns (ΣN, ...), in the order of the ranks.
    """
    world = get_world_size()
    if world == 1:
        return lambda: x
    gathered = x.new_empty(world * len(x), *x.shape[1:])
    x = x.contiguous()
    work = distributed.all_gather_into_tensor(gathered, x, async_op=True)
    return partial(_wait, work, gathered, x)


class BatchShuffle:
    """A permutation of the images of all processes, and the part of this process.

    Each process sends and receives only the images that move to another process: of N images each,
    each of W processes receives N·(W − 1) / W on average, where gathering all images takes
    N·(W − 1). The permutation is a function of ``seed``, so all processes have the same one without
    communication, and a resumed run has those of the interrupted one.

    Args:
        images (int): N, images of each process.
        seed (int): The same on every process.
        device (torch.device): Device of the images.
    """

    def __init__(self, images: int, seed: int, device: torch.device) -> None:
        rank, world = get_rank(), get_world_size()
        order = torch.randperm(world * images, generator=torch.Generator().manual_seed(seed))
        # row r: the index in the global batch of each image that rank r takes
        taken = order.view(world, images)
        home = taken // images
        places = home[rank].argsort(stable=True)
        self._received = home[rank].bincount(minlength=world).tolist()
        self._sent = (home == rank).sum(dim=1).tolist()
        own = taken[home == rank] % images
        index = to_device(torch.stack((own, own.argsort(), places, places.argsort())), device)
        self._to_send, self._to_keep, self._to_return, self._to_places = index

    def shuffle(self, x: Tensor) -> Tensor:
        """Return this process's part, (N, ...), of the permuted images."""
        return _start_exchange(x[self._to_send], self._sent, self._received)()[self._to_places]

    def start_restore(self, x: Tensor) -> Callable[[], Tensor]:
        """Start to send back (N, ...) features of shuffled images; the result waits for its own."""
        wait = _start_exchange(x[self._to_return], self._received, self._sent)
        return lambda: wait()[self._to_keep]


def _start_exchange(x: Tensor, sent: list[int], received: list[int]) -> Callable[[], Tensor]:
    x = x.contiguous()
    arriving = x.new_empty(sum(received), *x.shape[1:])
    work = distributed.all_to_all_single(arriving, x, received, sent, async_op=True)
    return partial(_wait, work, arriving, x)


def _wait(work: distributed.Work, arriving: Tensor, sent: Tensor) -> Tensor:
    """Wait for ``arriving``; ``sent`` is kept alive, as it is read until then."""
    work.wait()
    return arriving
