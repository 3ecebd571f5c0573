"""Execution of the jobs of a study by one or more workers, which may run on several machines."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

import torch

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.engine.runner.signals import handle, restore
from mmcrosscl.errors import (
    EXIT_PREEMPTED,
    PREEMPTING,
    InputError,
    Preempted,
    RunError,
)
from mmcrosscl.progress import ProgressBar, write_line

from .estimate import format_hours, remaining_seconds
from .failures import Failures
from .inputs import INPUTS, check_unchanged, job_inputs
from .jobs import config_lock, job_folder, read_results, run_job
from .locks import lock_file
from .plan import Job
from .study import Study, read_study

LOG = 'output.log'
# seconds between two looks at the jobs of other workers
POLL = 5.0


class StudyRunner:
    """Runs the jobs of a study, one at a time on each device.

    A job is locked while it runs, so several processes, also on other machines with the same file
    system, can work on one study. The lock ends with the process and its command. A job that was
    interrupted is resumed from its last checkpoint.

    Args:
        work_dir (Path): Folder of the study.
        write_results (Callable): Called after each job.
    """

    def __init__(self, work_dir: Path, write_results: Callable[[], object]) -> None:
        self.work_dir = work_dir
        self.write_results = write_results
        # value of CUDA_VISIBLE_DEVICES for each worker; None leaves it unchanged
        self.devices = visible_devices()
        self._lock = threading.Lock()
        self._children: set[subprocess.Popen] = set()
        self._stopped: int | None = None
        self._error: BaseException | None = None
        self._failures = Failures(range(len(self.devices)))

    def run(self) -> None:
        """Run all jobs that are not done.

        Raises:
            InputError: If a config or a checkpoint has changed since another job read it.
            RunError: If a job fails, after the jobs that do not need its result.
            Preempted: After SIGTERM or SIGUSR1, once the jobs have saved their checkpoints.
        """
        handle(PREEMPTING, self._stop)
        jobs = list(read_study(self.work_dir).plan.jobs())
        self._bar = ProgressBar('study', len(jobs), 'jobs', lines=False)
        try:
            threads = [
                threading.Thread(target=self._work, args=each) for each in enumerate(self.devices)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                # a join without a timeout would delay the signal handlers
                while thread.is_alive():
                    thread.join(0.5)
        except KeyboardInterrupt:
            self._stop(signal.SIGINT, None)
            raise
        finally:
            self._bar.close()
            restore()
        if self._error is not None:
            raise self._error
        if self._stopped is not None:
            raise Preempted()
        self._raise_failed()

    def _work(self, worker: int, device: str | None) -> None:
        try:
            while self._error is None and self._stopped is None:
                # another command may have extended the study
                study = read_study(self.work_dir)
                done = set(read_results(self.work_dir, study))
                if not study.plan.possible(done, self._failures.lost()):
                    return
                with self._claim(study, done, worker) as claimed:
                    if claimed is None:
                        time.sleep(POLL)
                        continue
                    job, lock = claimed
                    self._check_inputs(study, job, done)
                    self._show(study, job, done)
                    execute = partial(self._execute, device=device, lock=lock)
                    try:
                        run_job(self.work_dir, study, job, execute)
                        self._failures.succeed(worker)
                    except (InputError, RunError) as error:
                        self._failures.add(job.id, worker, error)
                        write_line(f'job {job.id} failed: {error}')
                        if self._failures.stops(worker):
                            write_line(
                                f'GPU {device} is not used any more, because two jobs failed on it '
                                'and on no other GPU'
                            )
                            return
                self.write_results()
        except _Stopped:
            pass
        except BaseException as error:
            self._error = self._error or error
            self._end_children(signal.SIGTERM)
        finally:
            self._failures.leave(worker)

    @contextlib.contextmanager
    def _claim(
        self, study: Study, done: set[str], worker: int
    ) -> Iterator[tuple[Job, TextIO] | None]:
        """Yield a job that no other worker runs, with its lock file, or None."""
        for job in study.plan.ready(done, self._failures.refused(worker)):
            folder = job_folder(self.work_dir, job)
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / 'lock').open('w') as file:
                try:
                    lock_file(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                # another worker may have tried the job since the results were read
                finished = read_results(self.work_dir, study)
                if job.id not in finished and job.id not in self._failures.refused(worker):
                    yield job, file
                    return
        yield None

    def _check_inputs(self, study: Study, job: Job, done: set[str]) -> None:
        """Write the digests of the files that a job reads, and compare them with other jobs."""
        with config_lock:
            digests = job_inputs(study.plan.arm(job.arm), study.detector)
        jobs = study.plan.jobs()
        finished = [job_folder(self.work_dir, each) for each in jobs if each.id in done]
        check_unchanged(digests, finished)
        path = job_folder(self.work_dir, job) / INPUTS
        atomic_write(path, lambda path: path.write_text(json.dumps(digests, indent=1)))

    def _execute(self, words: list[str], folder: Path, device: str | None, lock: TextIO) -> None:
        environment = dict(os.environ)
        if device is not None:
            environment['CUDA_VISIBLE_DEVICES'] = device
        command = [sys.executable, '-m', 'mmcrosscl', *words]
        with (folder / LOG).open('a') as log:
            with self._lock:
                if self._stopped is not None or self._error is not None:
                    raise _Stopped
                child = subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    # a group of its own: the signals of a terminal reach only this process
                    start_new_session=True,
                    # if this process is killed, the job stays locked until its command ends
                    pass_fds=[lock.fileno()],
                )
                self._children.add(child)
            # a signal may have come after the check and before the process was listed
            if self._stopped is not None or self._error is not None:
                self._end_children(self._stopped or signal.SIGTERM)
            status = child.wait()
            self._children.discard(child)
        if status == 0:
            return
        if status == EXIT_PREEMPTED and self._error is None:
            self._stopped = self._stopped or signal.SIGTERM
        if self._stopped is not None or self._error is not None:
            raise _Stopped
        error = RunError(f'{_last_line(folder / LOG)} (log: {folder / LOG})')
        error.exit_status = status if status > 0 else 128 - status
        raise error

    def _raise_failed(self) -> None:
        study = read_study(self.work_dir)
        done = read_results(self.work_dir, study)
        # another worker may have had success with a job
        failed = {n: error for n, error in self._failures.errors.items() if n not in done}
        if not failed:
            return
        name, first = next(iter(failed.items()))
        jobs = list(study.plan.jobs())
        missing = len(jobs) - len(done)
        error = RunError(
            f'{missing} of {len(jobs)} jobs are not done, because {len(failed)} failed; the '
            f'first is {name}: {first}'
        )
        error.exit_status = first.exit_status
        raise error

    def _stop(self, number: int, frame: object) -> None:
        self._stopped = number
        self._end_children(number)

    def _end_children(self, number: int) -> None:
        for child in list(self._children):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)

    def _show(self, study: Study, job: Job, done: set[str]) -> None:
        labels = '' if job.labels is None else f', {job.labels} labels'
        rate = '' if job.rate is None else f', learning rate {job.rate:g}'
        text = f'{job.kind} {job.arm}, seed {job.seed}{labels}{rate}'
        remaining = remaining_seconds(self.work_dir, study) / len(self.devices)
        left = f'about {format_hours(remaining)} left' if remaining else ''
        total = len(list(study.plan.jobs()))
        if self._bar.on_terminal:
            details = ' · '.join(filter(None, [text, left]))
            self._bar.update(len(done), details=details, total=total)
        else:
            parts = [f'job {len(done) + 1}/{total}', text, left]
            write_line(' · '.join(filter(None, parts)))


class _Stopped(Exception):
    """Ends a worker whose job was interrupted."""


def visible_devices() -> Sequence[str | None]:
    """Return the GPUs that this process may use, or a single None without GPUs."""
    count = torch.cuda.device_count()
    if count < 2:
        return [None]
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    return visible.split(',') if visible else [str(index) for index in range(count)]


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors='replace').splitlines() if line.strip()]
    return lines[-1].removeprefix('error: ') if lines else 'a job failed without a message'
