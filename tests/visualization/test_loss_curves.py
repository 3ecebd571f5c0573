import json

import numpy as np
import pytest
from PIL import Image

from mmcrosscl.errors import InputError
from mmcrosscl.visualization import plot_loss_curves


def write_log(work_dir, entries):
    folder = work_dir / '20260101_000000/vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, entries)))


def test_the_picture_has_a_curve_per_term(tmp_path):
    losses = dict(loss=1.0, loss_p4_p3=1.0, acc_p4_p3=9.0, lr=0.1)
    write_log(tmp_path, [dict(step=step, iter=step, **losses) for step in range(0, 100, 10)])
    plot_loss_curves(tmp_path, tmp_path / 'losses.png')
    picture = np.asarray(Image.open(tmp_path / 'losses.png').convert('RGB')).astype(int)
    assert picture.shape[0] > 300 and picture.shape[1] > 800
    # matplotlib's first color, in both halves
    blue = np.abs(picture - [31, 119, 180]).sum(axis=2) < 30
    half = picture.shape[1] // 2
    assert blue[:, :half].sum() > 100 and blue[:, half:].sum() > 100


def test_a_folder_without_a_log_is_named(tmp_path):
    with pytest.raises(InputError, match='has no training log; name the work_dir of a run'):
        plot_loss_curves(tmp_path, tmp_path / 'losses.png')


def test_a_run_without_training_is_named(tmp_path):
    write_log(tmp_path, [{'coco/bbox_mAP': 0.5, 'step': 3}])
    with pytest.raises(InputError, match='has evaluations only; name the work_dir of a training'):
        plot_loss_curves(tmp_path, tmp_path / 'losses.png')
