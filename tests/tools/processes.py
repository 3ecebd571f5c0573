"""Processes of a training job, as tests of the launchers see them."""

import re
import time
from pathlib import Path


def ranks(work_dir: Path) -> list[int]:
    """Return the process ids of the ranks, in order.

    Data loader workers, whose parent is a training process, are not included.
    """
    found = {}
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            words = (folder / 'cmdline').read_bytes().split(b'\0')
            environment = dict(
                item.partition(b'=')[::2] for item in (folder / 'environ').read_bytes().split(b'\0')
            )
            parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
        except OSError:
            continue
        trains = b'python' in words[0] and b'train' in words and b'--gpus' not in words
        trains &= any(str(work_dir).encode() in word for word in words)
        if trains:
            found[int(folder.name)] = (parent, int(environment.get(b'RANK', b'0')))
    first = {pid: rank for pid, (parent, rank) in found.items() if parent not in found}
    return sorted(first, key=first.get)


def wait_for(tmp_path: Path, pattern: str, seconds=90, after=0, out='out') -> int:
    """Wait until the output contains a pattern after a position, and return its end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = (tmp_path / out).read_text()
        if match := re.search(pattern, text[after:]):
            return after + match.end()
        time.sleep(0.2)
    raise AssertionError(f'no {pattern} within {seconds} s:\n{text[-3000:]}')
