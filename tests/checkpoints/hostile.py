"""Objects that run code when they are unpickled."""

import os
from pathlib import Path

from mmengine.logging import HistoryBuffer


class Hostile:
    """Creates the file ``sign`` when it is unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple:
        return os.system, (f'touch {self.sign}',)


class CallsMethod:
    """Calls a method through getattr when it is unpickled; MMEngine's files use getattr as well."""

    def __reduce__(self) -> tuple:
        return HistoryBuffer().update, (1,)
