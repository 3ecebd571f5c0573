import json
import os
import subprocess
import sys

import pytest

from mmcrosscl.errors import InputError
from mmcrosscl.studies import parse_arm
from mmcrosscl.studies.inputs import INPUTS, check_unchanged, job_inputs


@pytest.fixture
def files(tmp_path):
    base, detector, changes, weights = (
        tmp_path / name for name in ('base.py', 'detector.py', 'changes.py', 'a.pth')
    )
    base.write_text("model = dict(type='FasterRCNN', width=64)\n")
    detector.write_text("_base_ = ['base.py']\n")
    changes.write_text('model = dict(momentum=0.01)\n')
    weights.write_bytes(b'weights')
    return base, detector, changes, weights


def finish(folder, digests):
    folder.mkdir()
    (folder / INPUTS).write_text(json.dumps(digests))
    return folder


@pytest.mark.parametrize(
    ('index', 'text', 'named'),
    [
        (0, "model = dict(type='FasterRCNN', width=32)", r'detector\.py'),
        (1, 'model = dict(width=32)', r'detector\.py'),
        (2, 'model = dict(momentum=0.1)', r'changes\.py'),
        (3, 'other weights', r'a\.pth'),
    ],
)
def test_a_file_that_changed_after_a_job_is_named(files, tmp_path, index, text, named):
    arm = parse_arm(f'crosscl@{files[2]}+weights={files[3]}')
    done = finish(tmp_path / 'job', job_inputs(arm, str(files[1])))
    check_unchanged(job_inputs(arm, str(files[1])), [done])
    files[index].write_text(text)
    with pytest.raises(InputError, match=f'{named} has changed since the job job of the study; '):
        check_unchanged(job_inputs(arm, str(files[1])), [done])
    # a file that no finished job has read may change
    check_unchanged(job_inputs(arm, str(files[1])), [])


def test_a_job_of_an_earlier_release_has_no_digests(files, tmp_path):
    (tmp_path / 'job').mkdir()
    check_unchanged(job_inputs(parse_arm('random'), str(files[1])), [tmp_path / 'job'])


def test_the_weights_of_the_detector_config_count(files, tmp_path):
    init_cfg = dict(type='Pretrained', checkpoint=str(files[3]))
    for settings, name in (
        (f'load_from = {str(files[3])!r}', f'load_from of {files[1]}'),
        (f'pretrained = {str(files[3])!r}', str(files[3])),
        (f'model = dict(backbone=dict(init_cfg={init_cfg}))', str(files[3])),
    ):
        files[1].write_text(f"_base_ = ['base.py']\n{settings}\n")
        assert name in job_inputs(parse_arm('weights'), str(files[1]))
        assert set(job_inputs(parse_arm('random'), str(files[1]))) == {str(files[1])}


def test_the_weights_of_changed_settings_count(files):
    files[2].write_text(f'load_from = {str(files[3])!r}\n')
    digests = job_inputs(parse_arm(f'crosscl@{files[2]}'), str(files[1]))
    assert set(digests) == {str(files[1]), str(files[2]), str(files[3])}


def test_a_pre_training_does_not_read_pretrained(files):
    files[1].write_text(f"_base_ = ['base.py']\npretrained = {str(files[3])!r}\n")
    assert set(job_inputs(parse_arm('crosscl+weights'), str(files[1]))) == {str(files[1])}


def test_comments_of_a_config_may_change(files, tmp_path):
    before = job_inputs(parse_arm('random'), str(files[1]))
    files[1].write_text("# a comment\n_base_ = ['./base.py']\n")
    assert job_inputs(parse_arm('random'), str(files[1])) == before


def test_a_removed_checkpoint_is_named(files):
    arm = parse_arm(f'weights={files[3]}')
    files[3].unlink()
    with pytest.raises(InputError, match=r'a\.pth cannot be read: No such file.*; restore it'):
        job_inputs(arm, str(files[1]))


@pytest.mark.slow
def test_a_digest_is_the_same_in_every_process(tmp_path):
    config = tmp_path / 'lazy.py'
    config.write_text(
        'from mmengine.config import read_base\n'
        'from mmdet.models import FasterRCNN\n'
        "model = dict(type=FasterRCNN, names={'a', 'b', 'c'}, sizes={1: 2, 'x': 3})\n"
    )
    code = (
        'from mmcrosscl.studies import parse_arm\n'
        'from mmcrosscl.studies.inputs import job_inputs\n'
        f'print(job_inputs(parse_arm("random"), {str(config)!r}))'
    )
    printed = {
        subprocess.run(
            [sys.executable, '-c', code],
            env={**os.environ, 'PYTHONHASHSEED': seed},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for seed in '12'
    }
    assert len(printed) == 1 and str(config) in printed.pop()
