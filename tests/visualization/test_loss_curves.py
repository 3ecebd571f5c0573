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


def test_the_figure_has_a_curve_per_loss_term(tmp_path):
    losses = dict(loss=1.0, loss_p4_p3=1.0, acc_p4_p3=9.0, lr=0.1)
    write_log(tmp_path, [dict(step=step, iter=step, **losses) for step in range(0, 100, 10)])
    plot_loss_curves(tmp_path, tmp_path / 'losses.png')
    pixels = np.asarray(Image.open(tmp_path / 'losses.png').convert('RGB')).astype(int)
    assert pixels.shape[0] > 300 and pixels.shape[1] > 800
    # both halves contain matplotlib's first color
    blue = np.abs(pixels - [31, 119, 180]).sum(axis=2) < 30
    half = pixels.shape[1] // 2
    assert blue[:, :half].sum() > 100 and blue[:, half:].sum() > 100


def test_a_folder_without_a_log_is_an_error(tmp_path):
    with pytest.raises(InputError, match='does not contain a training log; pass the work_dir of'):
        plot_loss_curves(tmp_path, tmp_path / 'losses.png')


def test_a_run_without_training_is_an_error(tmp_path):
    write_log(tmp_path, [{'coco/bbox_mAP': 0.5, 'step': 3}])
    with pytest.raises(InputError, match='has logs of evaluations only; pass the work_dir of a tr'):
        plot_loss_curves(tmp_path, tmp_path / 'losses.png')


def test_the_losses_of_a_detector_have_one_plot(tmp_path):
    for losses in (
        {'loss': 1.0, 's0.loss_cls': 0.5, 'sup_loss_bbox': 0.7},
        dict(loss=1.0, loss_cls=0.5),
        dict(loss=1.0),
    ):
        work_dir = tmp_path / str(len(losses))
        write_log(work_dir, [dict(step=step, iter=step, **losses) for step in (0, 10, 20)])
        picture = tmp_path / f'new{len(losses)}/losses.PNG'
        plot_loss_curves(work_dir, picture)
        pixels = np.asarray(Image.open(picture).convert('RGB')).astype(int)
        assert (np.abs(pixels - [31, 119, 180]).sum(axis=2) < 30).sum() > 100


def test_bad_requests_are_named(tmp_path):
    write_log(tmp_path, [dict(step=1, iter=1, lr=0.1)])
    with pytest.raises(InputError, match='has no losses in its logs'):
        plot_loss_curves(tmp_path, tmp_path / 'losses.png')
    for name in ('curves.txt', 'curves'):
        with pytest.raises(InputError, match=f'{name} has no known image format; use one of the'):
            plot_loss_curves(tmp_path, tmp_path / name)
