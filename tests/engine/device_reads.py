"""Counter of the operations for which the host would wait for a GPU."""

import traceback
from collections import Counter
from pathlib import Path

import torch
from mmengine.hooks import Hook
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# beginnings of the names of operations that return a number, or whose shape depends on values
READS = ('_local_scalar_dense', 'equal', 'nonzero', 'masked_select', 'unique', '_unique')
# methods that are no operations on a CPU
METHODS = ('tolist', 'cpu')


class DeviceReads(TorchDispatchMode):
    """Counts the reads of tensors within training iterations, per place in the code.

    All tensors count, because on a CPU the tensors of the device do not differ from those of the
    host. Reads of tensors that :func:`start_read` copied to the host do not count.

    Attributes:
        iterations (list[Counter]): The number of reads per file and line, for each iteration.
    """

    def __init__(self, monkeypatch) -> None:
        super().__init__()
        self.iterations: list[Counter] = []
        self._counting = False
        for name in METHODS:
            monkeypatch.setattr(Tensor, name, self._counted(getattr(Tensor, name)))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        indices = args[1] if func.overloadpacket.__name__.startswith('index') else ()
        masks = [x for x in indices or () if isinstance(x, Tensor) and x.dtype == torch.bool]
        if masks or func.overloadpacket.__name__.startswith(READS):
            self._count()
        return func(*args, **(kwargs or {}))

    def _counted(self, method):
        def counted(*args, **kwargs):
            self._count()
            return method(*args, **kwargs)

        return counted

    def _count(self) -> None:
        frames = [f for f in traceback.extract_stack() if '/torch/' not in f.filename]
        place = next(frame for frame in reversed(frames) if frame.filename != __file__)
        if self._counting:
            self.iterations[-1][f'{Path(place.filename).name}:{place.lineno}'] += 1

    def register(self, runner) -> None:
        """Register the hooks between which reads count."""
        start, stop = Hook(), Hook()
        start.before_train_iter = self._start
        stop.after_train_iter = self._stop
        runner.register_hook(start, 'HIGHEST')
        runner.register_hook(stop, 'LOWEST')

    def _start(self, *args, **kwargs) -> None:
        self.iterations.append(Counter())
        self._counting = True

    def _stop(self, *args, **kwargs) -> None:
        self._counting = False
