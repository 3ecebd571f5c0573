"""Transfers to a device and between processes, such as batch shuffling and gathering."""

from collections.abc import Callable
from functools import partial

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, distributed

from mmcrosscl.compat.gather import all_gather_into_tensor


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor from host memory to a device without synchronizing the device."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == 'cuda' else x.to(device)


def start_read(x: Tensor) -> Callable[[], Tensor]:
    """Start to copy a small tensor to host memory without synchronizing the device.

    Args:
        x (Tensor): The tensor. It must not be modified before the copy is complete.

    Returns:
        Callable: A function that waits until the device has computed and copied the tensor, but not
        for later work of the device, and returns the copy.
    """
    copy = x.to('cpu', non_blocking=True)
    if x.device.type != 'cuda':
        return lambda: copy
    copied = torch.cuda.Event()
    copied.record()
    return partial(_synchronized, copied, copy)


def _synchronized(copied: torch.cuda.Event, copy: Tensor) -> Tensor:
    copied.synchronize()
    return copy


def start_gather(x: Tensor) -> Callable[[], Tensor]:
    """Start an asynchronous all-gather of a tensor along its first dimension.

    Args:
        x (Tensor): (N, ...), without gradient. The shape must be the same on every rank.

    Returns:
        Callable: A function that waits for the tensors of all W processes and returns them as
        (W·N, ...), in rank order.
    """
    world = get_world_size()
    if world == 1:
        return lambda: x
    gathered = x.new_empty(world * len(x), *x.shape[1:])
    x = x.contiguous()
    work = all_gather_into_tensor(gathered, x)
    return partial(_wait, work, gathered, x)


class BatchShuffle:
    """Random permutation of the images of all processes.

    Each process sends and receives only the images that move to another process. With N images on
    each of W processes, a process receives N·(W − 1) / W images on average. Gathering all images
    would receive N·(W − 1). The permutation depends only on ``seed``: all processes compute the
    same permutation without communication, and a resumed run repeats the permutations of the
    interrupted run.

    Args:
        images (int): N, number of images per process.
        seed (int): Seed of the permutation. It must be the same on every process.
        device (torch.device): Device of the images.
    """

    def __init__(self, images: int, seed: int, device: torch.device) -> None:
        rank, world = get_rank(), get_world_size()
        order = torch.randperm(world * images, generator=torch.Generator().manual_seed(seed))
        # row r holds the indices in the global batch of the images that rank r receives
        parts = order.view(world, images)
        owner = parts // images
        by_owner = owner[rank].argsort(stable=True)
        self._received = owner[rank].bincount(minlength=world).tolist()
        self._sent = (owner == rank).sum(dim=1).tolist()
        own = parts[owner == rank] % images
        index = to_device(torch.stack((own, own.argsort(), by_owner, by_owner.argsort())), device)
        self._to_send, self._to_own_order, self._to_return, self._to_permuted_order = index

    def shuffle(self, x: Tensor) -> Tensor:
        """Exchange the images and return this process's part of the permutation, (N, ...)."""
        wait = _start_exchange(x[self._to_send], self._sent, self._received)
        return wait()[self._to_permuted_order]

    def start_restore(self, x: Tensor) -> Callable[[], Tensor]:
        """Start to send the features of shuffled images back to the processes of the images.

        Args:
            x (Tensor): (N, ...), features of the images that :meth:`shuffle` returned.

        Returns:
            Callable: A function that waits for the features of this process's images and returns
            them as (N, ...), in the order before :meth:`shuffle`.
        """
        wait = _start_exchange(x[self._to_return], self._received, self._sent)
        return lambda: wait()[self._to_own_order]


def _start_exchange(x: Tensor, sent: list[int], received: list[int]) -> Callable[[], Tensor]:
    x = x.contiguous()
    arriving = x.new_empty(sum(received), *x.shape[1:])
    work = distributed.all_to_all_single(arriving, x, received, sent, async_op=True)
    return partial(_wait, work, arriving, x)


def _wait(work: distributed.Work, arriving: Tensor, sent: Tensor) -> Tensor:
    """Wait for ``arriving``. The argument ``sent`` keeps the sent memory alive until then."""
    work.wait()
    return arriving
