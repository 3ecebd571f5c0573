"""Checkpoints of a run on several machines that do not share the work dir."""

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, broadcast, is_main_process

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.errors import InputError

# bytes per broadcast
CHUNK = 1 << 24


def copy_to_machines(path: Path) -> None:
    """Copy a checkpoint of rank 0 to the machines whose disk does not contain it.

    All ranks must call the function. It does nothing on one machine and with a shared work dir.

    Args:
        path (Path): Path of the checkpoint, which is the same on all machines.

    Raises:
        InputError: If the copy cannot be written.
    """
    leads = int(os.environ.get('LOCAL_RANK', 0)) == 0
    if sum(all_gather_object(leads)) == 1:
        return
    own = None
    if leads and path.is_file():
        with open(path, 'rb') as file:
            own = path.stat().st_size, hashlib.file_digest(file, 'sha256').hexdigest()
    copies = all_gather_object((leads, own))
    wanted = copies[0][1]
    if all(copy == wanted for first, copy in copies if first):
        return

    def receive(target: Path | None) -> None:
        with nullcontext() if target is None else open(target, 'wb') as file:
            for chunk in _broadcast(path, wanted[0]):
                if file is not None:
                    file.write(chunk)

    if leads and own != wanted:
        atomic_write(path, receive)
    else:
        receive(None)


def refuse_checkpoints_elsewhere(checkpoints: list[Path]) -> None:
    """Check that no machine has checkpoints if rank 0 has none to resume from.

    All ranks must call the function.

    Args:
        checkpoints (list[Path]): The checkpoints on the disk of this rank.

    Raises:
        InputError: If another machine has checkpoints.
    """
    own = f'{checkpoints[0]} on {socket.gethostname()}' if checkpoints else None
    found = [name for name in all_gather_object(own) if name is not None]
    if found:
        raise InputError(
            f'{found[0]} exists, but the machine of rank 0 has no checkpoint to resume from; copy '
            'the checkpoint to the same path on that machine, or set MASTER_ADDR to the machine '
            'that has it'
        )


def _broadcast(path: Path, size: int) -> Iterator[bytes]:
    """Send a file of rank 0 to all ranks, and yield its parts."""
    with open(path, 'rb') if is_main_process() else nullcontext() as source:
        for start in range(0, size, CHUNK):
            length = min(CHUNK, size - start)
            part = bytearray(length) if source is None else bytearray(source.read(length))
            chunk = torch.frombuffer(part, dtype=torch.uint8)
            broadcast(chunk)
            yield chunk.numpy().tobytes()
