"""Search for the checkpoint that a run resumes from."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmcrosscl.checkpoints import verify_checksums
from mmcrosscl.engine.sources import initial_sources
from mmcrosscl.errors import DamagedCheckpointError, InputError

from .machines import copy_to_machines, refuse_checkpoints_elsewhere
from .run_marker import RunMarker


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


def check_training_state(checkpoint: Mapping, path: str) -> None:
    """Check that a run can resume from a checkpoint.

    Raises:
        InputError: If the checkpoint contains weights alone, or no state of the optimizer.
    """
    if not {'epoch', 'iter'} <= set(checkpoint.get('meta', {})) or 'message_hub' not in checkpoint:
        missing = 'weights only'
    elif 'optimizer' not in checkpoint:
        missing = 'no state of the optimizer, as checkpoints of the best score and published ones'
    else:
        return
    raise InputError(
        f'{path} contains {missing}, so no run can resume from it; resume from a checkpoint such '
        'as iter_1000.pth or epoch_10.pth, or start a new run with load_from or pretrained set to '
        'this file'
    )


def checkpoint_to_resume(runner: Runner, auto_resume: bool) -> str | None:
    """Search for the checkpoint that a training resumes from.

    All ranks must call the function. If a launcher has restarted the run, only its own checkpoints
    are used, and with ``auto_resume`` also those of the earlier run. The checkpoint is copied to
    machines that do not share the work dir.

    Args:
        runner (Runner): The runner, before training starts.
        auto_resume (bool): Whether to resume from the newest intact checkpoint.

    Returns:
        str | None: The path, '' to start from the initial weights, or None to let MMEngine decide.

    Raises:
        InputError: If all checkpoints are damaged, if only another machine has checkpoints, or if a
            file cannot be written.
    """
    marker = RunMarker(Path(runner.work_dir))
    # The launcher of each machine counts only its own restarts.
    restarted = torch.tensor(int(marker.restarted()))
    all_reduce(restarted, 'max')
    # Only the main process searches, because other machines may not have access to its disk.
    found: list[str | InputError | OSError | None] = [None]
    if is_main_process():
        try:
            found = [_find_checkpoint(runner, marker, bool(restarted), auto_resume)]
        except (InputError, OSError) as error:
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], InputError | OSError):
        raise found[0]
    if found[0]:
        copy_to_machines(Path(found[0]))
    elif auto_resume:
        place = checkpoint_place(runner)
        refuse_checkpoints_elsewhere(list_checkpoints(Path(runner.work_dir), *place))
    return found[0]


def _find_checkpoint(
    runner: Runner, marker: RunMarker, restarted: bool, auto_resume: bool
) -> str | None:
    checkpoints = list_checkpoints(Path(runner.work_dir), *checkpoint_place(runner))
    if restarted and (own := marker.of_this_run(checkpoints)):
        # a run that resumed an earlier one can use its checkpoints too
        earlier = [path for path in checkpoints if path not in own] if auto_resume else []
        return str(newest_intact([*own, *earlier], runner.logger))
    if not restarted:
        marker.begin(checkpoints, resumes=auto_resume)
    if not auto_resume:
        return None
    found = newest_intact(checkpoints, runner.logger)
    if found is None:
        sources = ' and '.join(initial_sources(runner.cfg))
        runner.logger.warning(
            f'{runner.work_dir} contains no checkpoint to resume from. Training starts from '
            f'{f"the weights of {sources}" if sources else "scratch"}.'
        )
    return str(found or '')
