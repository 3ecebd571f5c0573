"""Pre-training of a detector's backbone and neck from Python; the command line calls it."""

import math
import os
import shlex
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config

from mmcrosscl.checkpoints import (
    atomic_write,
    convert,
    last_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from mmcrosscl.datasets import UnlabeledDataset, absolute
from mmcrosscl.detectors import (
    TERMS,
    Detector,
    Features,
    Schedule,
    choose_view_size,
    config_text,
    default_iterations,
    describe,
    dry_run,
    find_detector,
    initial_checkpoints,
    loads_weights,
    report,
    seconds_per_iteration,
    used_levels,
)
from mmcrosscl.engine import build_runner, load_config, merge_changes, read_config
from mmcrosscl.engine.options import merge_options
from mmcrosscl.engine.runner.initial_weights import check_initial_weights, load_from_file
from mmcrosscl.errors import (
    EXIT_PREEMPTED,
    InputError,
    Preempted,
    RunError,
    check_at_least_one,
)
from mmcrosscl.launch import launch
from mmcrosscl.option_values import format_options
from mmcrosscl.quiet import quiet_output

BATCH_SIZE = 32
# settings that an option determines
CONFIGURED = {
    '--epochs': 'train_cfg.max_iters',
    '--iters': 'train_cfg.max_iters',
    '--batch-size': 'train_dataloader.batch_size',
    '--terms': 'model.head.terms',
    '--weights': 'pretrained',
    '--data': 'train_dataloader.dataset.data_root',
}


@quiet_output()
def pretrain(
    detector: str | Path,
    data: str | Path,
    work_dir: str | Path,
    *,
    epochs: int | None = None,
    iters: int | None = None,
    batch_size: int | None = None,
    gpus: int | None = None,
    from_scratch: bool = False,
    weights: str | Path | None = None,
    terms: str = 'crosscl',
    changes: str | Path | None = None,
    resume: bool = False,
    amp: bool = False,
    options: Mapping[str, object] | None = None,
) -> Path:
    """Pre-train the backbone and the neck of a detector on images without labels.

    Writes a config to the work dir, prints the command that trains with it, and trains. After the
    training, a checkpoint for the detector is written next to the training checkpoints.

    Args:
        detector (str | Path): Config file of a detector of MMDetection, or ``PACKAGE::CONFIG``,
            such as ``mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py``.
        data (str | Path): Folder of images, which is searched at any depth, or folder of tar or zip
            files with images. It may be a URL that fsspec can read, such as ``s3://bucket/folder``.
        work_dir (str | Path): Folder for the config, the log and the checkpoints.
        epochs (int, optional): Length in epochs. Defaults to None (200 epochs, but at least 5,000
            iterations).
        iters (int, optional): Length in iterations, instead of ``epochs``.
        batch_size (int, optional): Number of images per process. Defaults to None (32, or the
            number of images if it is smaller).
        gpus (int, optional): Number of processes to start on this machine, one per GPU. Defaults to
            None (train in this process).
        from_scratch (bool): Start from random weights. By default, pre-training starts from the
            weights that the detector's config loads: from those of ``load_from`` in the backbone
            and the neck, or else from those of ``init_cfg``, such as ImageNet weights.
        weights (str | Path, optional): Checkpoint to start from instead, such as that of a detector
            trained on COCO. Every format that ``mmcrosscl convert`` reads is accepted.
        terms (str): Loss terms: 'crosscl', or its ablations 'within' (without the terms of two
            levels) and 'global' (the global term alone, as in MoCo v2). Defaults to 'crosscl'.
        changes (str | Path, optional): Config file whose settings are merged into the config that
            is written, for settings that `--cfg-options` cannot express.
        resume (bool): Resume from the newest checkpoint in the work dir, with its config. The other
            arguments must agree with it.
        amp (bool): Train in float16 with loss scaling. Defaults to False.
        options (Mapping, optional): Settings to override, as in :func:`load_config`.

    Returns:
        Path: A checkpoint with the weights of the detector's backbone and neck, for ``load_from``
        or ``pretrained`` in the detector's config.

    Raises:
        InputError: If the config, the folder or an option is invalid. Nothing is written then.
        RunError: If a process dies.
        Preempted: After SIGTERM or SIGUSR1, once a checkpoint is saved.
    """
    name, work_dir, options = str(detector), Path(work_dir), dict(options or {})
    numbers = {'--epochs': epochs, '--iters': iters, '--batch-size': batch_size, '--gpus': gpus}
    check_at_least_one(numbers)
    if epochs is not None and iters is not None:
        raise InputError('--epochs and --iters are both set; set only one of them')
    if from_scratch and weights is not None:
        raise InputError('--from-scratch and --weights are both set; set only one of them')
    if gpus is not None and os.environ.get('NNODES', '1') != '1':
        raise InputError(
            f'NNODES is {os.environ["NNODES"]}, but pretrain uses one machine; unset NNODES, and '
            'train the written config on several machines with tools/dist_train.sh'
        )
    if terms not in TERMS:
        raise InputError(f'terms is {terms!r}; set one of {", ".join(TERMS)}')
    if weights is not None and not Path(weights).is_file():
        raise InputError(f'checkpoint {weights} does not exist; pass a file to --weights')
    own_weights = not from_scratch and weights is None
    detector_cfg = read_config(name)
    parts = find_detector(detector_cfg, name, keep_weights=own_weights)
    config = work_dir / f'pretrain_{parts.name}.py'
    result = work_dir / f'{parts.name}_pretrained.pth'
    start = None if weights is None else Path(weights).resolve()
    resumes = resume and config.is_file()
    # a config that fine-tunes the result may be the one that is pre-trained
    if own_weights and not resumes and not _names(detector_cfg.get('load_from'), result):
        if (start := load_from_file(detector_cfg, name)) is not None:
            own_weights = False
            parts = find_detector(detector_cfg, name, keep_weights=False)
            note = f'The backbone and the neck start from load_from of {name}, {start}.'
            parts = replace(parts, notes=(*parts.notes, note))
    # options and a changed config may replace the weights, which the runner then checks
    changed = resume or changes is not None or any(n.startswith('model') for n in options)
    if own_weights and not changed:
        trust = bool(options.get('trust_checkpoints'))
        check_initial_weights(initial_checkpoints([parts.backbone, parts.neck]), trust)
    folder = absolute(data)
    dataset = UnlabeledDataset(data_root=folder)
    images = len(dataset)
    features = dry_run(parts, choose_view_size(dataset))
    schedule = _schedule(images, epochs, iters, batch_size, gpus or 1)
    text = config_text(
        parts, features, folder, images, schedule, terms, None if start is None else str(start)
    )
    if changes is not None:
        text = merge_changes(text, str(changes))
    if resumes:
        given = {**numbers, '--data': data, '--weights': weights}
        # the default does not show whether the terms were given
        given['--terms'] = terms if terms != 'crosscl' else None
        names = [option for option, value in given.items() if value is not None]
        _check_resumed(config, text, names, changes, options)
        _check_detector(parts, features, config, from_scratch)
        text = config.read_text()
    settings: dict[str, Any] = dict(work_dir=work_dir, options=options, resume=resume, amp=amp)
    arguments = _arguments(**settings)
    with TemporaryDirectory() as temporary:
        # errors in the options are found before anything is written to the work dir
        draft = Path(temporary, config.name)
        draft.write_text(text)
        cfg = load_config(draft, **settings)
        if 'max_iters' not in cfg.train_cfg:
            raise InputError(
                'train_cfg has no max_iters, because --changes or an option replaces the training '
                'loop; omit train_cfg, and set the length by --epochs or --iters'
            )
        checkpoint_hook = cfg.get('default_hooks', {}).get('checkpoint', {})
        if checkpoint_hook is None:
            raise InputError(
                'default_hooks.checkpoint is None, so no weights would be saved; omit this option'
            )
        seconds = seconds_per_iteration(cfg, dataset)
    # --terms and --changes may train other layers than those of the chosen levels
    trained = used_levels(cfg.model, features, ['query'])
    if set(trained.values()) != set(features.levels.values()):
        features = dry_run(parts, features.view_size, trained)
    # the training processes may use the same GPU
    torch.cuda.empty_cache()
    _print(describe(parts, features, cfg, images, gpus or 1, seconds))
    atomic_write(config, lambda path: path.write_text(text))
    command = shlex.join(['tools/dist_train.sh', str(config), str(gpus or 1), *arguments])
    _print(['The command of this training:', f'  {command}'])
    if gpus is None:
        build_runner(load_config(config, **settings)).train()
    elif status := launch([str(config), *arguments, '--launcher', 'pytorch'], gpus):
        raise _failure(status)
    _export(parts, work_dir, checkpoint_hook.get('out_dir'), result)
    _print(report(parts, features, name, result))
    return result


def _check_resumed(
    config: Path,
    text: str,
    names: Collection[str],
    changes: str | Path | None,
    options: Mapping[str, object],
) -> None:
    """Raise an error if an argument would change the config of a pre-training that is resumed.

    Args:
        config (Path): The config.
        text (str): Text of the config of a new pre-training with the same arguments.
        names (Collection[str]): Options that are given.
        changes (str | Path, optional): See :func:`pretrain`.
        options (Mapping): See :func:`pretrain`.
    """
    before = read_config(str(config))
    # settings without an option, such as the number of workers, depend on the machine
    after = Config.fromstring(text, '.py')
    compared = [(option, CONFIGURED[option], after) for option in names if option in CONFIGURED]
    if changes is not None:
        merged = Config.fromstring(merge_changes(config.read_text(), str(changes)), '.py')
        compared += [('--changes', key, merged) for key in read_config(str(changes))]
        merge_options(merged, options)
    # training writes the config with the options
    merge_options(before, options)
    merge_options(after, options)
    for option, key, other in compared:
        if _setting(before, key) != _setting(other, key):
            raise InputError(
                f'{option} would change {key} of {config}, with which the run resumes; omit '
                f'{option}, or set another --work-dir'
            )


def _check_detector(parts: Detector, features: Features, config: Path, from_scratch: bool) -> None:
    """Raise an error if a pre-training that is resumed has another detector or initialization."""
    before = read_config(str(config))
    model = before.model.to_dict()
    if from_scratch and (before.get('pretrained') or loads_weights(model)):
        raise InputError(
            f'--from-scratch differs from {config}, which loads initial weights; omit it, or set '
            'another --work-dir'
        )
    # without a neck of its own, the detector is pre-trained with an FPN
    neck = parts.neck and model['neck'].get('detector', parts.neck)
    same = dry_run(replace(parts, backbone=model['backbone'], neck=neck), features.view_size)
    if (same.parameters, same.map_channels) != (features.parameters, features.map_channels):
        raise InputError(
            f'the backbone or the neck of {parts.name} differs from that in {config}, with which '
            'the run resumes; restore the config of the detector, or set another --work-dir'
        )


def _setting(cfg: Config, key: str) -> object:
    value: Any = cfg
    for name in key.split('.'):
        value = value.get(name) if isinstance(value, Mapping | Config) else None
    return value


def _schedule(
    images: int, epochs: int | None, iters: int | None, batch_size: int | None, processes: int
) -> Schedule:
    batch_size = batch_size or min(BATCH_SIZE, max(1, images // processes))
    total = batch_size * processes
    if iters is None:
        iters = math.ceil(epochs * images / total) if epochs else default_iterations(images, total)
    # one core of a process is for the training itself
    workers = min(8, max(1, len(os.sched_getaffinity(0)) // processes - 1))
    return Schedule(iters, batch_size, workers)


def _arguments(work_dir: Path, options: Mapping, resume: bool, amp: bool) -> list[str]:
    """Return the arguments of `mmcrosscl train` for these keywords of :func:`load_config`."""
    arguments = ['--work-dir', str(work_dir)]
    arguments += ['--resume'] * resume + ['--amp'] * amp
    texts = format_options(options)
    return [*arguments, *(['--cfg-options', *texts] if texts else [])]


def _failure(status: int) -> Preempted | RunError:
    if status == EXIT_PREEMPTED:
        return Preempted()
    error = RunError(f'the training processes ended with status {status}; see the error above')
    error.exit_status = status
    return error


def _names(setting: str | None, path: Path) -> bool:
    return setting is not None and Path(setting).expanduser().resolve() == path.resolve()


def _export(detector: Detector, work_dir: Path, out_dir: str | None, result: Path) -> None:
    """Write the weights of the detector from the newest checkpoint in a work dir."""
    target = 'mmdet-backbone' if detector.neck is None else 'mmdet'
    newest = last_checkpoint(work_dir)
    if out_dir is not None:
        # MMEngine adds the name of the work dir, unless both are the same folder
        elsewhere = Path(out_dir, work_dir.name, newest.name)
        newest = elsewhere if elsewhere.is_file() else newest
    write_checkpoint(convert(read_checkpoint(newest), target).contents(), result)


def _print(lines: list[str]) -> None:
    print('\n'.join(lines), flush=True)
