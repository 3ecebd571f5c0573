"""Hook that limits how many values of each training scalar are kept in memory."""

from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner

from mmcrosscl.registry import HOOKS

from .deferred_message_hub import DeferredMessageHub


@HOOKS.register_module()
class ScalarHistoryHook(Hook):
    """Keeps only those values of the training scalars that the log still averages.

    MMEngine keeps up to a million values of each scalar, and copies all of them whenever it adds
    one. The time of an iteration and the size of checkpoints would therefore grow during long runs.
    A window of ``log_processor`` with the size 'epoch' keeps an epoch. A window with the size
    'global' or without a size keeps everything. The log and the scalars that the visualizer writes
    are not affected.
    """

    # after LoggerHook, so that it also limits the histories of a checkpoint from another runner
    priority = 'LOW'

    def before_train(self, runner: Runner) -> None:
        processor = runner.log_processor
        sizes = {'epoch': len(runner.train_dataloader)}
        self._limits: dict[str, int | None] = {}
        for window in processor.custom_cfg:
            name, size = window['data_src'], window.get('window_size')
            size = sizes.get(size, size)
            limit = self._limits.get(name, processor.window_size)
            known = isinstance(size, int) and limit is not None
            self._limits[name] = max(size, limit) if known else None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        hub = runner.message_hub
        # the limit also applies to the values that are still on the device
        scalars = hub.read_scalars if isinstance(hub, DeferredMessageHub) else hub.log_scalars
        for name, history in scalars.items():
            stage, _, source = name.partition('/')
            limit = self._limits.get(source, runner.log_processor.window_size)
            if stage == 'train' and limit is not None and history.max_length != limit:
                values, counts = (array[-limit:] for array in history.data)
                scalars[name] = HistoryBuffer(values, counts, max_length=limit)
