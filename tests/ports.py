"""Ports at which the processes of a test meet."""

import itertools
import os
import socket

# below the ports that Linux assigns by itself, 32768 and up; test runs in parallel start apart
_PORTS = itertools.count(10_000 + os.getpid() % 1_000 * 20)


def free_port() -> int:
    """Return a TCP port that no process uses, another one at each call."""
    for port in _PORTS:
        with socket.socket() as s:
            try:
                s.bind(('127.0.0.1', port))
            except OSError:
                continue
            return port
