"""A run as text: its state, key figures, properties and sessions."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from .collect import Run
from .commands import Command, next_commands
from .figures import number
from .logs import Session
from .similarity import Estimate

# rows of the summary that ProgressHook logs
SUMMARY = ('model', 'data', 'device', 'schedule', 'optimizer', 'start', 'config')
CROSS_STAGE = ('P3 → P4', 'P4 → P3')


@dataclass(frozen=True)
class RunView:
    """A run as the page shows it.

    Attributes:
        name: Short name of the work dir.
        color: Number of its color in the style sheet.
        data: The run.
        now: Time of the report, in local time.
    """

    name: str
    color: int
    data: Run
    now: datetime

    @property
    def state(self) -> str:
        """See :meth:`Run.state`."""
        return self.data.state(self.now)

    @property
    def commands(self) -> list[Command]:
        """See :func:`next_commands`."""
        return next_commands(self.data, self.now)

    @property
    def facts(self) -> list[tuple[str, str, str]]:
        """Key figures: name, value, and a detail."""
        run, facts = self.data, []
        if run.iteration:
            of = f'of {run.total:,}' if run.total else ''
            facts.append(('iteration', f'{run.iteration:,}', of))
        curves = {(curve.plot.name, curve.label): curve for curve in run.curves}
        for (plot, label), curve in curves.items():
            if plot == 'loss':
                facts.append(('last loss', number(curve.last), f'first {number(curve.first)}'))
            elif label == 'AP':
                facts.append(
                    (curve.plot.title, number(curve.last), f'best {number(curve.highest)}')
                )
            elif plot == 'margin' and label in CROSS_STAGE:
                bounds = [curve.last] * 2 if curve.interval is None else curve.interval[:, -1]
                facts.append((f'margin {label}', *format_estimate((curve.last, *bounds))))
            elif plot == 'speed':
                facts.append(('images/s', number(curve.middle), 'median'))
        return facts

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Properties of the run: name and value."""
        run = self.data
        start = run.sessions[0].summary.get('start') if run.sessions else None
        summary = {**run.summary, **(dict(start=start) if start else {})}
        rows = [(name, summary[name]) for name in SUMMARY if name in summary]
        if not rows and run.config:
            parts = [run.config.get(f'model.{part}') for part in ('type', 'backbone.type')]
            rows = [('model', ' with '.join(str(part) for part in parts if part))]
        if run.sessions:
            first, last = run.sessions[0], run.sessions[-1]
            inside = f' in {len(run.sessions)} sessions' if len(run.sessions) > 1 else ''
            time = format_duration(run.training_time)
            period = [f'{x:%Y-%m-%d %H:%M}' for x in (first.started, last.ended)]
            rows.append(('time', f'{time}{inside}, from {period[0]} to {period[1]}'))
        return rows

    @property
    def endings(self) -> list[tuple[Session, str]]:
        """Sessions, and how each of them ended."""
        endings = []
        for session in self.data.sessions:
            if not session.trains:
                text = ''
            elif session.preempted_after is not None:
                text = f'preempted; checkpoint saved after iteration {session.preempted_after:,}'
            elif session is self.data.last_session and self.state in ('finished', 'in progress'):
                text = self.state
            else:
                text = f'ended without a message in {session.log.name}: killed, or failed'
            if steps := session.non_finite:
                shown = ', '.join(map(str, steps[:10])) + (', …' if len(steps) > 10 else '')
                text += f'; {count(len(steps), "update")} skipped because of NaN/Inf ({shown})'
            endings.append((session, text))
        return endings


def count(number: int, noun: str) -> str:
    """Format a number of things."""
    return f'{number:,} {noun}{"" if number == 1 else "s"}'


def format_estimate(estimate: Estimate, percent: bool = False) -> tuple[str, str]:
    """Return an estimate and its interval as text. An unknown interval is empty."""
    value, low, high = (100 * x if percent else x for x in estimate)
    digits = 0 if percent else 2
    if math.isnan(value):
        return 'unknown', ''
    sign = ' %' if percent else ''
    known = math.isfinite(low) and low < high
    interval = f'[{low:.{digits}f}, {high:.{digits}f}]'.replace('-', '−') if known else ''
    return f'{value:.{digits}f}{sign}'.replace('-', '−'), interval


def format_duration(duration: timedelta) -> str:
    """Format a duration with its two largest units."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f'{days} d {hours} h'
    if hours:
        return f'{hours} h {minutes} min'
    return f'{minutes} min {seconds} s'
