"""Signal handlers that child processes do not inherit."""

import os
import signal
import threading
from collections.abc import Callable
from functools import cache
from types import FrameType

# what signal.signal takes and returns; None for a handler that was not set from Python
Handler = Callable[[int, FrameType | None], object] | int | None
# maps each handled signal to its previous handler
_before: dict[int, Handler] = {}
_mask = threading.local()


def handle(numbers: tuple[int, ...], handler: Callable) -> None:
    """Set a handler for signals.

    In threads other than the main thread, Python cannot set handlers, and the function has no
    effect.

    Args:
        numbers (tuple[int, ...]): The signals.
        handler (Callable): The handler; see :func:`signal.signal`.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    _guard_forks()
    for number in numbers:
        before = signal.signal(number, handler)
        _before.setdefault(number, before)


def restore() -> None:
    """Restore the handlers that were set before the first call of :func:`handle`."""
    for number, handler in _before.items():
        # None is a handler that Python cannot restore
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
    _before.clear()


@cache
def _guard_forks() -> None:
    """Set the default handlers in child processes, so that SIGTERM ends the workers of a pool.

    If the parent has a handler, Python drops a signal that reaches a child before its fork is
    complete. The process pool of an evaluation would then wait for this child forever. Signals are
    therefore blocked until the child has set its handlers. If no handler is set with this module,
    forks are unchanged.
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
