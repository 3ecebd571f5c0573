"""The part of the log that is shown on the screen. The log file contains all records."""

import logging
import os
import re

import mmengine
from mmengine.logging import MMLogger

from mmcrosscl.progress import write_line

MMENGINE = os.path.dirname(mmengine.__file__)
# methods of MMEngine's LoggerHook that log the metrics of an evaluation
EVALUATION = ('after_val_epoch', 'after_test_epoch')
# prefix of the metrics of CrossStageSimilarity
SIMILARITY = ' similarity/'
# warnings of MMEngine that users can do nothing about
OWN_WARNINGS = re.compile(
    # deprecations that only MMEngine itself causes
    r'"FileClient" will be deprecated|"HardDiskBackend" is the alias'
    # the optimizer and shared or frozen parameters, with paramwise_cfg
    r'|\S+ is duplicate\. It is skipped since bypass_duplicate='
    r'|\S+ is skipped since its requires_grad='
)


def show_on_screen(logger: MMLogger) -> None:
    """Replace the logger's stream handler with a :class:`ScreenHandler`."""
    handlers = logger.handlers
    for row, handler in enumerate(handlers):
        if isinstance(handler, logging.StreamHandler) and not isinstance(
            handler, logging.FileHandler
        ):
            handlers[row] = ScreenHandler(handler.level)
            # this includes MMEngine's filter of repeated warnings
            handlers[row].filters = [*handler.filters, *handlers[row].filters]


class ScreenHandler(logging.Handler):
    """Print log records as short lines above the progress bars.

    The handler skips two types of records below the level WARNING: records of MMEngine, such as
    the config and the list of hooks, except for the metrics of an evaluation; and records that are
    logged with ``extra=dict(file_only=True)``. It also skips :data:`OWN_WARNINGS`. A handler of the
    level DEBUG does not skip records.

    Args:
        level (int): Minimum level of the records.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.setFormatter(_Formatter('%(asctime)s  %(message)s', '%m/%d %H:%M:%S'))
        if level > logging.DEBUG:
            self.addFilter(matters)

    def emit(self, record: logging.LogRecord) -> None:
        write_line(self.format(record))


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.levelno > logging.INFO:
            record.message = f'{record.levelname}: {record.message}'
        return super().formatMessage(record)


def matters(record: logging.LogRecord) -> bool:
    """Return whether a record is shown on the screen; see :class:`ScreenHandler`."""
    if record.levelno > logging.INFO:
        return not OWN_WARNINGS.match(record.getMessage())
    if getattr(record, 'file_only', False):
        return False
    if not record.pathname.startswith(MMENGINE):
        return True
    # CrossStageSimilarity logs a summary of its many values
    return record.funcName in EVALUATION and SIMILARITY not in record.getMessage()
