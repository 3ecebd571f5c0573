"""What goes to the device and between processes: shuffled batches, and the keys that all see."""

from collections.abc import Callable
from functools import partial

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, distributed


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Bring a small tensor from host memory to a device, which waits for nothing."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == 'cuda' else x.to(device)


def start_gather(x: Tensor) -> Callable[[], Tensor]:
    """Begin to gather a tensor of every process, and go on meanwhile.

    Args:
        x (Tensor): (N, ...), of the same shape everywhere, without gradient.

    Returns:
        Callable: Called, it waits and gives (ΣN, ...), in the order of the ranks.
    """
    world = get_world_size()
    if world == 1:
        return lambda: x
    gathered = x.new_empty(world * len(x), *x.shape[1:])
    x = x.contiguous()
    work = distributed.all_gather_into_tensor(gathered, x, async_op=True)
    return partial(_wait, work, gathered, x)


class BatchShuffle:
    """One permutation of the images of all processes, and what of it concerns this one.

    Each process sends and receives only what changes places: of N images each of W processes
    receives N·(W − 1) / W on average, where gathering all would take N·(W − 1). The permutation
    follows from ``seed`` alone, so that all processes have the same one without asking, and a
    resumed run has those of the run that it goes on from.

    Args:
        images (int): N, images of each process.
        seed (int): The same on every process.
        device (torch.device): Where the images are.
    """

    def __init__(self, images: int, seed: int, device: torch.device) -> None:
        rank, world = get_rank(), get_world_size()
        order = torch.randperm(world * images, generator=torch.Generator().manual_seed(seed))
        # row r: which image of the whole batch each place of rank r takes
        taken = order.view(world, images)
        home = taken // images
        places = home[rank].argsort(stable=True)
        self._received = home[rank].bincount(minlength=world).tolist()
        self._sent = (home == rank).sum(dim=1).tolist()
        own = taken[home == rank] % images
        index = to_device(torch.stack((own, own.argsort(), places, places.argsort())), device)
        self._to_send, self._to_keep, self._to_return, self._to_places = index

    def shuffle(self, x: Tensor) -> Tensor:
        """This process's part, (N, ...), of the permuted images of all."""
        return _start_exchange(x[self._to_send], self._sent, self._received)()[self._to_places]

    def start_restore(self, x: Tensor) -> Callable[[], Tensor]:
        """Begin to send back (N, ...) that came of shuffled images; call the result for its own."""
        wait = _start_exchange(x[self._to_return], self._received, self._sent)
        return lambda: wait()[self._to_keep]


def _start_exchange(x: Tensor, sent: list[int], received: list[int]) -> Callable[[], Tensor]:
    x = x.contiguous()
    arriving = x.new_empty(sum(received), *x.shape[1:])
    work = distributed.all_to_all_single(arriving, x, received, sent, async_op=True)
    return partial(_wait, work, arriving, x)


def _wait(work: distributed.Work, arriving: Tensor, sent: Tensor) -> Tensor:
    """Wait for ``arriving``; until then ``sent`` is read, and must not be freed."""
    work.wait()
    return arriving
