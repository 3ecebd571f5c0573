"""Progress bars on a terminal, and lines of text if the output is not a terminal.

All bars of a process share one display. Lines that are printed meanwhile appear above it.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

Item = TypeVar('Item')
# seconds between two updates of the display
REFRESH = 0.2
# seconds until the first plain line of a step, and between the next ones
FIRST_LINE, NEXT_LINE = 5, 60

# torchrun sets this variable, and MMEngine sets it for other launchers
MAIN_PROCESS = os.environ.get('RANK', '0') == '0'

# A command that a Jupyter notebook starts with `!` has a pseudo-terminal, but the notebook does not
# move a cursor. rich also takes FORCE_COLOR, which Jupyter sets, for a terminal.
TERMINAL = sys.stdout.isatty() and 'JPY_PARENT_PID' not in os.environ

console = Console(
    force_terminal=None if TERMINAL else False, highlight=False, markup=False, emoji=False
)


class _Display(Progress):
    """rich's ``Progress`` with lines of details below the bars.

    The display refreshes on demand instead of from a thread, because a thread could hold a lock
    while a data loader forks the process.
    """

    def __init__(self) -> None:
        super().__init__(
            TextColumn('{task.description}'),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn('{task.fields[unit]}'),
            console=console,
            auto_refresh=False,
            transient=True,
            # rich would otherwise print errors to stdout, although stderr is redirected to a file
            redirect_stderr=sys.stderr.isatty(),
        )

    def get_renderable(self) -> RenderableType:
        details = [task.fields['details'] for task in self.tasks if task.fields['details']]
        lines = [Text(line, no_wrap=True, overflow='ellipsis') for line in details]
        return Group(*self.get_renderables(), *lines)

    def start(self) -> None:
        super().start()
        # rich hides the cursor, and a process that is killed could not show it again
        console.show_cursor()


_display: _Display | None = None


def write_line(line: str) -> None:
    """Print a line above the progress bars."""
    if _display is None:
        print(line, flush=True)
    else:
        console.print(line, soft_wrap=True)


class ProgressBar:
    """Progress of one step.

    If the output is not a terminal, a line of text replaces the bar after 5 seconds and then every
    minute. Short steps therefore print nothing.

    Args:
        description (str): Name of the step.
        total (int, optional): Number of units. Defaults to None (unknown).
        unit (str): Name of a unit in the plural. Defaults to ''.
        completed (int): Units completed at the start. Defaults to 0.
        lines (bool): Print lines if the output is not a terminal. Defaults to True.
    """

    def __init__(
        self,
        description: str,
        total: int | None = None,
        unit: str = '',
        completed: int = 0,
        lines: bool = True,
    ) -> None:
        global _display
        self.description = description
        self.total = total
        self.unit = unit
        self.lines = lines
        self._task: TaskID | None = None
        self._due = time.monotonic() + FIRST_LINE
        if not MAIN_PROCESS:
            self.lines = False
        elif console.is_interactive:
            if _display is None:
                _display = _Display()
                _display.start()
            self._task = _display.add_task(
                description, total=total, completed=completed, unit=unit, details=''
            )
            self._due = 0.0

    @property
    def on_terminal(self) -> bool:
        """Whether this is a bar on a terminal."""
        return self._task is not None

    @property
    def due(self) -> bool:
        """Whether the display is outdated; a fast loop calls :meth:`update` only if it is."""
        return time.monotonic() >= self._due

    def update(
        self,
        completed: int,
        description: str | None = None,
        details: str | None = None,
        total: int | None = None,
    ) -> None:
        """Set the number of completed units.

        Args:
            completed (int): Units completed since the start of the step.
            description (str, optional): New name of the step.
            details (str, optional): New text of the line below the bars.
            total (int, optional): New number of units.
        """
        self.total = total or self.total
        if self._task is None or _display is None:
            if self.lines and self.due:
                self._due = time.monotonic() + NEXT_LINE
                of = f'{completed:,}' if self.total is None else f'{completed:,}/{self.total:,}'
                write_line(f'{description or self.description}: {of} {self.unit}'.rstrip())
            return
        self._due = time.monotonic() + REFRESH
        changed: dict[str, Any] = dict(description=description, details=details, total=total)
        _display.update(
            self._task,
            completed=completed,
            **{name: value for name, value in changed.items() if value is not None},
        )
        _display.refresh()

    def close(self) -> None:
        """Remove the bar; a second call does nothing."""
        global _display
        if self._task is None or _display is None:
            return
        _display.remove_task(self._task)
        self._task = None
        if _display.tasks:
            _display.refresh()
        else:
            _display.stop()
            _display = None


@contextmanager
def progress_bar(
    description: str, total: int | None = None, unit: str = ''
) -> Iterator[ProgressBar]:
    """Show a :class:`ProgressBar` while the block runs."""
    bar = ProgressBar(description, total, unit)
    try:
        yield bar
    finally:
        bar.close()


def track(
    items: Iterable[Item], description: str, total: int | None = None, unit: str = ''
) -> Iterator[Item]:
    """Iterate over items and show the progress.

    Args:
        items (Iterable): The items.
        description (str): Name of the step.
        total (int, optional): Number of items. Defaults to ``len(items)``.
        unit (str): Name of the items. Defaults to ''.
    """
    total = len(cast(Sized, items)) if total is None else total
    with progress_bar(description, total, unit) as bar:
        for completed, item in enumerate(items):
            if bar.due:
                bar.update(completed)
            yield item
