"""Search for the checkpoints of a run that are intact and that this run has saved."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmcrosscl.checkpoints import atomic_write, verify_checksums
from mmcrosscl.errors import DamagedCheckpointError, InputError

# maps the variable for the number of restarts to the variable for the id of all attempts
LAUNCHES = {
    'TORCHELASTIC_RESTART_COUNT': 'TORCHELASTIC_RUN_ID',
    'SLURM_RESTART_COUNT': 'SLURM_JOB_ID',
    'MMCROSSCL_RESTARTS': 'MMCROSSCL_LAUNCH',
}


def checkpoint_place(runner: Runner) -> tuple[Path, str]:
    """Return the folder of a run's checkpoints and the template of their file names.

    Must be called before training starts, because MMEngine then changes the hook's ``out_dir``.

    Raises:
        InputError: If the folder is in a remote store, where no run could find its checkpoints.
    """
    work_dir = Path(runner.work_dir)
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            if '://' in str(hook.out_dir):
                raise InputError(
                    f'a run cannot resume from checkpoints in {hook.out_dir}; set '
                    'default_hooks.checkpoint.out_dir to a local folder or a mounted bucket'
                )
            # MMEngine compares texts: if only the spelling differs, it saves to a sub-folder
            elsewhere = hook.out_dir is not None and hook.out_dir != runner.work_dir
            folder = Path(hook.out_dir, work_dir.name) if elsewhere else work_dir
            return folder, hook.filename_tmpl
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    return work_dir, 'epoch_{}.pth' if by_epoch else 'iter_{}.pth'


def list_checkpoints(work_dir: Path, folder: Path, template: str) -> list[Path]:
    """Return the checkpoints in a folder, newest first.

    The checkpoints of an earlier run in the same folder come last, even if their numbers are
    higher.

    Args:
        work_dir (Path): Folder of MMEngine's file ``last_checkpoint``.
        folder (Path): Folder of the checkpoints.
        template (str): Template of the file names, such as ``epoch_{}.pth``.
    """
    before, after = map(re.escape, template.split('{}'))
    numbers = {
        path: re.fullmatch(rf'{before}(\d+)(?:_iter_(\d+))?{after}', path.name)
        for path in folder.glob('*')
    }
    found = [
        (int(match[1]), int(match[2] or 0), path)
        for path, match in numbers.items()
        if match is not None
    ]
    found.sort(reverse=True)
    ordered = [path for *_, path in found]
    note = work_dir / 'last_checkpoint'
    # only the file name is used, because the path in `last_checkpoint` may be outside the folder
    last = folder / Path(note.read_text(errors='replace').strip()).name if note.is_file() else None
    if last in ordered:
        # A checkpoint saved after `last` is newer, even if the run ended before it wrote the note.
        written = last.stat().st_mtime_ns
        higher = ordered[: ordered.index(last)]
        earlier = [path for path in higher if path.stat().st_mtime_ns < written]
        ordered = [path for path in ordered if path not in earlier] + earlier
    return ordered


def newest_intact(paths: Iterable[Path], logger: MMLogger) -> Path | None:
    """Return the first path whose checksums are correct, or None if there are no paths.

    Raises:
        InputError: If all checkpoints are damaged.
    """
    paths = list(paths)
    for path in paths:
        try:
            verify_checksums(path)
            return path
        except DamagedCheckpointError as error:
            logger.warning(f'{error}. The next older checkpoint is tried.')
    if paths:
        raise InputError(
            f'none of the {len(paths)} checkpoints in {paths[0].parent} is intact; copy an intact '
            'checkpoint to this folder, or start a new run with another --work-dir'
        )
    return None


class RunMarker:
    """File in the work dir that separates the checkpoints of a run from those of earlier runs.

    The first attempt of a run writes the file. If torchrun or Slurm restarts the run, the restarted
    run may resume only from checkpoints that were saved after the first attempt started. The file
    also contains the iteration of the last complete validation, because the checkpoint before a
    validation cannot tell whether it was completed.

    Args:
        work_dir (Path): Work dir of the run.
    """

    def __init__(self, work_dir: Path) -> None:
        self.path = work_dir / 'run.json'

    def restarted(self) -> bool:
        """Return whether this is a restart by a launcher and an earlier attempt wrote the file."""
        launch = self._read().get('launch', {})
        return any(
            int(os.environ.get(count, 0)) > 0 and launch.get(name) == os.environ.get(name)
            for count, name in LAUNCHES.items()
        )

    def end_earlier_run(self) -> None:
        """Remove the id of an earlier run, unless this is a restart of that run.

        torchrun gives all runs the id 'none', unless it is told otherwise. If the first attempt
        ends before it writes the file, the next one would resume the earlier run.
        :meth:`restore_earlier_run` restores the id.

        Raises:
            InputError: If the file cannot be written.
        """
        contents = self._read()
        launch = contents.get('launch', {})
        ids = filter(os.environ.get, LAUNCHES.values())
        if any(launch.get(name) == os.environ[name] for name in ids) and not self.restarted():
            self._write({**contents, 'launch': {}, 'ended': launch})

    def restore_earlier_run(self) -> None:
        """Restore the id that :meth:`end_earlier_run` removed, because this is no new run.

        A job that trains and then tests would otherwise train again if it is restarted during the
        test.

        Raises:
            InputError: If the file cannot be written.
        """
        contents = self._read()
        if (launch := contents.pop('ended', None)) is not None:
            self._write({**contents, 'launch': launch})

    def begin(self, checkpoints: Iterable[Path], resumes: bool) -> None:
        """Write the file, which lists the checkpoints that exist before the first attempt.

        Args:
            checkpoints (Iterable[Path]): The checkpoints.
            resumes (bool): Whether the attempt resumes an earlier run in the folder.

        Raises:
            InputError: If the file cannot be written.
        """
        contents = dict(
            launch={name: os.environ.get(name) for name in LAUNCHES.values()},
            earlier={str(path): path.stat().st_mtime_ns for path in checkpoints},
            validated=self.validated() if resumes else None,
        )
        self._write(contents)

    def of_this_run(self, checkpoints: Iterable[Path]) -> list[Path]:
        """Return the checkpoints that were saved after the first attempt started."""
        earlier = self._read().get('earlier', {})
        return [path for path in checkpoints if earlier.get(str(path)) != path.stat().st_mtime_ns]

    def validated(self) -> int | None:
        """Return the iteration of the last complete validation, or None if there was none."""
        return self._read().get('validated')

    def note_validation(self, iteration: int) -> None:
        """Write the iteration of the last complete validation.

        Raises:
            InputError: If the file cannot be written.
        """
        self._write({**self._read(), 'validated': iteration})

    def _write(self, contents: dict) -> None:
        atomic_write(self.path, lambda path: path.write_text(json.dumps(contents)))

    def _read(self) -> dict:
        try:
            return json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
