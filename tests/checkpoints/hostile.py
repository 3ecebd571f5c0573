"""Objects that run code when they are unpickled."""

import os
from pathlib import Path

from mmengine.logging import HistoryBuffer


class Hostile:
    """Creates the file ``sign`` when unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple:
        return os.system, (f'touch {self.sign}',)


class CallsMethod:
    """Calls a method that getattr returns; MMEngine's checkpoints contain getattr as well."""

    def __reduce__(self) -> tuple:
        return HistoryBuffer().update, (1,)
