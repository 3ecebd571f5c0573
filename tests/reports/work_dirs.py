"""Work dirs of runs, as MMEngine and mmcrosscl write them."""

import json
import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

TERMS = ('global', 'p4_p4', 'p3_p3', 'p4_p3', 'p3_p4')
START = datetime(2026, 1, 1, 10)

CONFIG = """\
custom_hooks = []
default_hooks = dict(logger=dict(interval=10), preemption=dict())
model = dict(
    backbone=dict(depth=18, type='mmpretrain.ResNet'),
    neck=dict(in_channels=[
        128,
        256,
        512,
    ], type='mmcrosscl.CrossCLNeck'),
    queue=dict(length=512, type='mmcrosscl.KeyQueue'),
    type='mmcrosscl.CrossCL')
optim_wrapper = dict(
    optimizer=dict(lr=-0.03, type='SGD'), type='mmcrosscl.FiniteOptimWrapper')
train_cfg = dict(max_iters=100, type='IterBasedTrainLoop')
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        data_root='/photos', pipeline=[
            dict(type='mmcrosscl.LoadImage'),
            dict(scale=96, type='mmcrosscl.TwoCrops'),
        ], type='mmcrosscl.UnlabeledDataset'))
train_pipeline = [
    dict(type='mmcrosscl.LoadImage'),
    dict(scale=96, type='mmcrosscl.TwoCrops'),
]
work_dir = 'work_dirs/run'
"""

DETECTOR = """\
model = dict(backbone=dict(depth=50, type='ResNet'), type='FasterRCNN')
train_cfg = dict(max_epochs=2, type='EpochBasedTrainLoop')
train_dataloader = dict(batch_size=2)
"""


def train_entries(steps: Sequence[int], total: int = 100) -> list[dict]:
    """Return the scalars of training iterations of CrossCL."""
    entries = []
    for step in steps:
        done = step / total
        entry = dict(lr=0.015 * (1 + math.cos(math.pi * done)), data_time=0.02, time=0.4)
        terms = {f'loss_{term}': 6 + n - 3 * done for n, term in enumerate(TERMS)}
        entry |= dict(loss=sum(terms.values())) | terms
        entry |= {f'acc_{term}': 60 * done + n for n, term in enumerate(TERMS)}
        entry |= dict(images_per_second=80 + 5 * math.sin(step), data_wait=0.05, memory=2048.0)
        entry |= dict(gradient_norm=4 - done, paired_share=0.56, iter=step, step=step)
        entries.append(entry)
    return entries


def similarity_entry(step: int) -> dict:
    """Return the scalars of an evaluation of CrossStageSimilarity."""
    entry = {}
    for pair, start in (('p3_p4', 0.05), ('p4_p3', 0.07), ('p3_p3', 0.2)):
        for field in ('same', 'other', 'margin', 'recall'):
            value = start + 0.004 * step
            entry[f'similarity/{pair}_{field}'] = value
            entry[f'similarity/{pair}_{field}_low'] = value - 0.03
            entry[f'similarity/{pair}_{field}_high'] = value + 0.03
    return entry | dict(data_time=0.1, time=0.2, step=step)


def write_session(
    work_dir: Path,
    entries: Sequence[dict],
    start: datetime = START,
    resumed_after: int = 0,
    total: int = 100,
    lines: Sequence[str] = (),
) -> Path:
    """Write the logs of a session. Return the text log.

    Args:
        work_dir (Path): The work dir.
        entries (Sequence[dict]): Lines of ``scalars.json``.
        start (datetime): Time of the start; each entry takes 10 seconds.
        resumed_after (int): Iteration of the checkpoint to resume from.
        total (int): Number of iterations of the training.
        lines (Sequence[str]): Further records, such as 'WARNING - text'.
    """
    name = start.strftime('%Y%m%d_%H%M%S')
    folder = work_dir / name / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text(''.join(f'{json.dumps(entry)}\n' for entry in entries))
    begin = f'resumes after iteration {resumed_after:,}' if resumed_after else 'initial weights'
    records = [
        'INFO - \n------------------------------------------------------------\n'
        'System environment:\n    sys.platform: linux\n    Python: 3.11.7\n    GPU 0: NVIDIA H100\n'
        '    PyTorch: 2.12.0+cu130\n    PyTorch compiling details: PyTorch built with:\n'
        '  - GCC 13.3\n\n    MMEngine: 0.10.12\n\nRuntime environment:\n'
        "    dist_cfg: {'backend': 'nccl'}\n    seed: 0\n    GPU number: 2\n"
        '------------------------------------------------------------\n',
        'INFO - Config:\nmodel = dict()\n',
        *([f'INFO - resumed epoch: 0, iter: {resumed_after}'] if resumed_after else []),
        'INFO - Training starts.\n  config     configs/run.py\n'
        '  data       60 images in /photos, 1 worker per process\n'
        '  model      CrossCL with ResNet-18, 12.9 M trainable parameters\n'
        f'  schedule   {total:,} iterations, 64 images per iteration\n  start      {begin}',
        *(
            f'INFO - Iter(train) [{entry["step"]:3}/{total}]  lr: 1.0e-02  loss: 3.0'
            for entry in entries if 'iter' in entry
        ),
        *lines,
    ]  # fmt: skip
    log = work_dir / name / f'{name}.log'
    stamps = (start + timedelta(seconds=10 * n) for n in range(len(records)))
    log.write_text(
        ''.join(f'{t:%Y/%m/%d %H:%M:%S} - mmengine - {x}\n' for t, x in zip(stamps, records))
    )
    return log


def write_run(work_dir: Path) -> Path:
    """Write the work dir of a pre-training run that was preempted, resumed and finished."""
    work_dir.mkdir(parents=True)
    (work_dir / 'run.py').write_text(CONFIG)
    path = work_dir / 'iter_40.pth'
    warnings = [
        'WARNING - NaN/Inf loss or gradient in iteration 12: the update is skipped (1 consecutive, '
        '1 in total).',
        f'WARNING - Preempted: saved {path} after iteration 42. The exit status is 75. Rerun with '
        '--resume.',
    ]
    first = [*train_entries(range(10, 41, 10)), similarity_entry(40)]
    write_session(work_dir, first, lines=warnings)
    second = [*train_entries(range(50, 101, 10)), similarity_entry(100)]
    write_session(work_dir, second, START + timedelta(hours=2), resumed_after=42)
    for name in ('iter_40.pth', 'iter_100.pth'):
        (work_dir / name).write_bytes(bytes(10**6))
    (work_dir / 'last_checkpoint').write_text(f'/elsewhere/{work_dir.name}/iter_100.pth')
    (work_dir / 'broken_images.txt').write_text('/photos/a.jpg\tOSError: image file is truncated\n')
    return work_dir


def write_detector_run(work_dir: Path) -> Path:
    """Write the work dir of a fine-tuning run of two epochs with 50 iterations each."""
    work_dir.mkdir(parents=True)
    (work_dir / 'detector.py').write_text(DETECTOR)
    entries = []
    for epoch in (1, 2):
        steps = range(50 * epoch - 40, 50 * epoch + 1, 10)
        entries += [dict(loss=2 - s / 100, loss_cls=1, acc=90, iter=s, step=s) for s in steps]
        precision = {'coco/bbox_mAP': 0.2 * epoch, 'coco/bbox_mAP_50': 0.3 * epoch}
        entries.append({**precision, 'coco/bbox_mAP_s': -1.0, 'step': epoch})
    write_session(work_dir, entries)
    return work_dir


def write_similarity(folder: Path, names: Sequence[str] = ('untrained', 'CrossCL')) -> Path:
    """Write a ``similarity.json`` and a picture. Return the file."""
    folder.mkdir(parents=True, exist_ok=True)

    def estimate(value: float) -> list[float]:
        return [value, value - 0.02, value + 0.03]

    checkpoints = []
    for number, name in enumerate(names):
        rows = [
            dict(kind='levels', views=2, query='p3', key='p4')
            | dict.fromkeys(('same', 'other', 'margin', 'recall'), estimate(0.1 + 0.3 * number)),
            dict(kind='cka', stages=['c3', 'c4'], cka=estimate(0.6)),
        ]  # fmt: skip
        path = None if number == 0 else f'{name}.pth'
        checkpoints.append(dict(name=name, path=path, rows=rows, collapsed=['p3'] * number))
    contents = dict(
        data='val.json', regions='boxes', images=96, objects=1234, view_size=224,
        checkpoints=checkpoints,
    )  # fmt: skip
    path = folder / 'similarity.json'
    path.write_text(json.dumps(contents))
    gradient = np.linspace(0, 255, 300).astype(np.uint8)
    Image.fromarray(np.tile(gradient, (80, 1))).save(folder / 'maps.png')
    return path
