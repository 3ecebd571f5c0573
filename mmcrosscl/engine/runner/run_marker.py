"""File in the work dir that separates the checkpoints of a run from those of earlier runs."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from mmengine.dist import is_main_process

from mmcrosscl.checkpoints import atomic_write

# maps the variable for the number of restarts to the variable for the id of all attempts
LAUNCHES = {
    'TORCHELASTIC_RESTART_COUNT': 'TORCHELASTIC_RUN_ID',
    'SLURM_RESTART_COUNT': 'SLURM_JOB_ID',
    'MMCROSSCL_RESTARTS': 'MMCROSSCL_LAUNCH',
}

# maps the launcher to the variable for the rank of a process
RANKS = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID'}


class RunMarker:
    """File in the work dir that separates the checkpoints of a run from those of earlier runs.

    The first attempt of a run writes the file. If torchrun or Slurm restarts the run, the restarted
    run may resume only from checkpoints that were saved after the first attempt started. The file
    also contains the iteration of the last complete validation, because the checkpoint before a
    validation cannot tell whether it was completed. Only the process with rank 0 writes the file.

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

    def end_earlier_run(self, launcher: str) -> None:
        """Remove the id of an earlier run, unless this is a restart of that run.

        It is called before the process group exists.

        torchrun gives all runs the id 'none', unless it is told otherwise. If the first attempt
        ends before it writes the file, the next one would resume the earlier run.
        :meth:`restore_earlier_run` restores the id.

        Args:
            launcher (str): Program that started the processes: 'none', 'pytorch' or 'slurm'.

        Raises:
            InputError: If the file cannot be written.
        """
        if int(os.environ.get(RANKS.get(launcher, ''), 0)) > 0:
            return
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
        # processes that write one file at the same time would remove each other's temporary file
        if is_main_process():
            atomic_write(self.path, lambda path: path.write_text(json.dumps(contents)))

    def _read(self) -> dict:
        try:
            return json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
