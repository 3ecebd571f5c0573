"""Training runs of a tiny model in separate processes that tests interrupt and inspect."""

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.engine import build_runner
from tests.training import tiny_config

# log entries that differ between runs
TIMES = ('time', 'data_time', 'memory', 'images_per_second', 'data_wait')


@HOOKS.register_module()
class Diary(Hook):
    """Records the inputs of each iteration, and sends SIGTERM in one iteration."""

    # runs after StepSeedHook and before PreemptionHook
    priority = 'BELOW_NORMAL'

    def __init__(self, folder: str, stop_at: int | None = None, stop_rank: int = 0) -> None:
        self.folder, self.stop_at, self.stop_rank = folder, stop_at, stop_rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.stop_at and runner.rank == self.stop_rank:
            os.kill(os.getpid(), signal.SIGTERM)
        views = hashlib.sha256(b''.join(v.numpy().tobytes() for v in data_batch['inputs']))
        samples = data_batch['data_samples']
        entry = dict(
            iter=runner.iter,
            batch_idx=batch_idx,
            size=data_batch['inputs'][0].shape[-1],
            views=views.hexdigest(),
            paths=[Path(s.img_path).name for s in samples],
            crops=[s.crops.tolist() for s in samples],
            random_number=torch.rand(1).item(),
        )
        with open(Path(self.folder, f'diary{runner.rank}.jsonl'), 'a') as file:
            file.write(json.dumps(entry) + '\n')


@HOOKS.register_module()
class Slow(Hook):
    """Makes iterations longer, so that a test can send signals during training."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(self.seconds)


@HOOKS.register_module()
class StopValidation(Hook):
    """Sends a signal to one rank in a batch of the validation after an iteration."""

    def __init__(self, after: int, batch: int, rank: int, number: int = signal.SIGTERM) -> None:
        self.after, self.batch, self.rank, self.number = after, batch, rank, number

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if (runner.iter, batch_idx, runner.rank) == (self.after, self.batch, self.rank):
            os.kill(os.getpid(), self.number)


@HOOKS.register_module()
class Poison(Hook):
    """Makes the losses infinite in some iterations of one rank."""

    def __init__(self, iterations: list[int], rank: int = 0) -> None:
        self.iterations, self.rank = iterations, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = runner.model.module if hasattr(runner.model, 'module') else runner.model
        bad = runner.iter in self.iterations and runner.rank == self.rank
        weight = float('inf') if bad else 1.0
        model.head.terms = [term._replace(weight=weight) for term in model.head.terms]


@HOOKS.register_module()
class Crash(Hook):
    """Raises torch's error for a dead worker at an iteration."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            raise RuntimeError('DataLoader worker (pid 1) is killed by signal: Killed.')


class Half(AmpOptimWrapper):
    """An ``AmpOptimWrapper`` for the CPU, which MMEngine's class does not support.

    The loss is scaled as in float16, but the computation is in float32.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, scale: float, static: bool) -> None:
        OptimWrapper.__init__(self, optimizer)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=scale, growth_interval=10**6)
        self._scale_update_param = scale if static else None

    def optim_context(self, model):
        return OptimWrapper.optim_context(self, model)


@HOOKS.register_module()
class ScaleLoss(Hook):
    """Replaces the optimizer wrapper of a run with :class:`Half`."""

    priority = 'VERY_HIGH'

    def __init__(self, scale: float, static: bool) -> None:
        self.settings = dict(scale=scale, static=static)

    def before_train(self, runner):
        runner.optim_wrapper = Half(runner.optim_wrapper.optimizer, **self.settings)


@HOOKS.register_module()
class Gauge(Hook):
    """Records the memory, files, threads and worker processes of the training process."""

    priority = 'LOWEST'

    def __init__(self, path: str, every: int) -> None:
        self.path, self.every = path, every

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if not self.every_n_train_iters(runner, self.every):
            return
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        children = Path(f'/proc/self/task/{os.getpid()}/children').read_text().split()
        for child in children:
            pages += int(Path(f'/proc/{child}/statm').read_text().split()[1])
        measured = dict(
            iteration=runner.iter + 1,
            megabytes=pages * os.sysconf('SC_PAGE_SIZE') / 1e6,
            files=len(os.listdir('/proc/self/fd')),
            threads=threading.active_count(),
            processes=len(children),
        )
        with open(self.path, 'a') as file:
            file.write(json.dumps(measured) + '\n')


@HOOKS.register_module()
class Pool(Hook):
    """Runs process pools, as evaluations do, and ends child processes with signals."""

    def after_train_epoch(self, runner):
        for _ in range(20):
            # the pool ends some processes before they have started
            with get_context('fork').Pool(2) as pool:
                handlers = pool.map(signal.getsignal, [signal.SIGTERM, signal.SIGUSR1])
                assert handlers == [signal.SIG_DFL] * 2
        for number in (signal.SIGTERM, signal.SIGUSR1):
            started = get_context('fork').Event()
            child = get_context('fork').Process(target=_work, args=(started,))
            child.start()
            started.wait()
            os.kill(child.pid, number)
            child.join()
            assert child.exitcode == -number


def _work(started) -> None:
    started.set()
    time.sleep(100)


@HOOKS.register_module()
class KillWorker(Hook):
    """Kills all worker processes after the second iteration, before a checkpoint is saved."""

    priority = 'VERY_HIGH'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 1:
            for process in multiprocessing.active_children():
                kill(process)


def kill(process: BaseProcess) -> None:
    """Kill a child process and wait until it is dead, but leave its status to torch."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def tiny_run(folder: Path, by_epoch: bool = True, length: int = 3, images: int = 12, **settings):
    """Return a config of ``length`` epochs with 3 iterations each, or of ``length`` iterations."""
    cfg = tiny_config(folder, epochs=length, images=images, **settings)
    cfg.model.backbone.drop_path_rate = 0.2
    cfg.train_dataloader.batch_size = 4
    cfg.train_dataloader.dataset.pipeline[1].scale = 32
    cfg.train_dataloader.dataset.pipeline[5].update(window=24, stride=8, grid=2, base_size=32)
    cfg.env_cfg.dist_cfg.timeout = 60
    if not by_epoch:
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=length)
        cfg.train_dataloader.sampler.type = 'mmcrosscl.SeededInfiniteSampler'
        cfg.param_scheduler = [dict(type='CosineAnnealingLR', T_max=length, by_epoch=False)]
        cfg.default_hooks.checkpoint.update(by_epoch=False, interval=3)
        cfg.log_processor.by_epoch = False
    return cfg


def _train(cfg: dict, rank: int, world: int, port: int) -> None:
    torch.set_num_threads(1)
    cfg = Config(cfg)
    if world > 1:
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world),
            MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port),
        )  # fmt: skip
        cfg.launcher = 'pytorch'
    build_runner(cfg).train()


# a fork server that has imported the packages starts processes a hundred times faster
context = get_context('forkserver')
context.set_forkserver_preload(['tests.engine.runs', 'mmcrosscl.models', 'mmcrosscl.datasets'])


def start(cfg: Config, world: int = 1, port: int = 0) -> list:
    """Start training in ``world`` processes."""
    processes = [
        context.Process(target=_train, args=(cfg.to_dict(), rank, world, port))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    return processes


def finish(processes: list, timeout: float = 120) -> list[int]:
    """Return the exit codes. Fail if a process still runs after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    for process in processes:
        process.join(max(0, end - time.monotonic()))
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
        process.join()
    assert not hanging, f'{len(hanging)} of {len(processes)} processes hang'
    return [process.exitcode for process in processes]


def log_of(folder: Path) -> str:
    """Return the log of the last run in a folder. Runs that start in one second share a file."""
    log = sorted(Path(folder, 'work').glob('*/*.log'))[-1].read_text()
    return log[log.rindex('System environment:') :]


def diary(folder: Path, rank: int = 0) -> dict[int, dict]:
    """Return the last entry of each iteration."""
    lines = Path(folder, f'diary{rank}.jsonl').read_text().splitlines()
    return {entry['iter']: entry for entry in map(json.loads, lines)}


def scalars(folder: Path) -> list[dict]:
    """Return the logged values of each iteration over all runs in a folder, without times."""
    steps = {}
    for path in sorted(Path(folder, 'work').glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            steps[entry['step']] = {k: v for k, v in entry.items() if k not in TIMES}
    return [steps[step] for step in sorted(steps)]


def assert_same_state(left: Path, right: Path, validated: bool = True) -> None:
    """Assert that two checkpoints are bit-identical.

    Args:
        left (Path): One checkpoint.
        right (Path): Another checkpoint.
        validated (bool): Whether the results of validations are compared. Defaults to True.
    """
    states = [read_checkpoint(path) for path in (left, right)]
    for state in states:
        state['message_hub'] = {
            name: buffer.data
            for name, buffer in state['message_hub']['log_scalars'].items()
            if not name.endswith(TIMES) and (validated or not name.startswith('val/'))
        }
        del state['meta']
    _assert_same(*states, 'checkpoint')


def _assert_same(left, right, name: str) -> None:
    assert type(left) is type(right), name
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype and torch.equal(left, right), name
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), name
        for key in left:
            _assert_same(left[key], right[key], f'{name}.{key}')
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), name
        for index, pair in enumerate(zip(left, right)):
            _assert_same(*pair, f'{name}.{index}')
    elif hasattr(left, 'tolist'):
        # as text, because NaN differs from itself
        assert repr(left.tolist()) == repr(right.tolist()), name
    else:
        assert left == right, name
