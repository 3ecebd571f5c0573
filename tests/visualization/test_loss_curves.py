import json

import numpy as np
import pytest
from PIL import Image

from mmcrosscl.errors import InputError
from mmcrosscl.visualization import plot_loss_curves, read_scalars


def log(work_dir, run, steps, value):
    folder = work_dir / run / 'vis_data'
    folder.mkdir(parents=True)
    lines = [dict(step=s, loss=value, loss_p4_p3=value, acc_p4_p3=9.0, lr=0.1) for s in steps]
    lines.append({'coco/bbox_mAP': 0.5, 'step': 3})
    # the last line is cut off, as in a run that was killed
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)) + '\n{"step": 99, "lo')


def test_a_resumed_run_overwrites_what_it_repeats(tmp_path):
    log(tmp_path, '20260102_000000', [20, 30], 2.0)
    log(tmp_path, '20260101_000000', [10, 20], 1.0)
    scalars = read_scalars(tmp_path)
    assert [(s['step'], s['loss']) for s in scalars] == [(10, 1.0), (20, 2.0), (30, 2.0)]


def test_the_picture_has_a_curve_per_term(tmp_path):
    log(tmp_path, '20260101_000000', range(0, 100, 10), 1.0)
    plot_loss_curves(tmp_path, tmp_path / 'losses.png')
    picture = np.asarray(Image.open(tmp_path / 'losses.png').convert('RGB')).astype(int)
    assert picture.shape[0] > 300 and picture.shape[1] > 800
    # matplotlib's first colour, in both halves
    blue = np.abs(picture - [31, 119, 180]).sum(axis=2) < 30
    half = picture.shape[1] // 2
    assert blue[:, :half].sum() > 100 and blue[:, half:].sum() > 100


def test_a_folder_without_a_log_is_named(tmp_path):
    with pytest.raises(InputError, match='has no training log; name the work_dir of a run'):
        plot_loss_curves(tmp_path, tmp_path / 'losses.png')
