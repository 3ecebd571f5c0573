"""Signal handlers that child processes do not inherit."""

import os
import signal
import threading
from collections.abc import Callable
from functools import cache

# handled now, with the handlers of before
_before: dict[int, object] = {}
_mask = threading.local()


def handle(numbers: tuple[int, ...], handler: Callable) -> None:
    """Set a handler for signals, in the main thread; elsewhere Python cannot, and nothing is done.

    Args:
        numbers (tuple[int, ...]): The signals.
        handler (Callable): As of :func:`signal.signal`.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    _guard_forks()
    for number in numbers:
        before = signal.signal(number, handler)
        _before.setdefault(number, before)


def restore() -> None:
    """Set the handlers of before the first :func:`handle`."""
    for number, handler in _before.items():
        signal.signal(number, handler)
    _before.clear()


@cache
def _guard_forks() -> None:
    """Give children the default handlers, so that a pool's SIGTERM ends them.

    Python drops a signal that reaches a child before it has finished the fork, if the parent has a
    handler: the pool of an evaluation would wait for that child forever. Signals therefore wait
    until the child has its handlers. Without handlers of this module, forks are unchanged.
    """
    os.register_at_fork(
        before=_block, after_in_parent=_unblock, after_in_child=_default_and_unblock
    )


def _block() -> None:
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _before.keys())


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _default_and_unblock() -> None:
    for number in _before:
        signal.signal(number, signal.SIG_DFL)
    _before.clear()
    _unblock()
