import json

import pytest

from mmcrosscl.errors import InputError
from mmcrosscl.studies import parse_arm
from mmcrosscl.studies.inputs import check_unchanged


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


@pytest.mark.parametrize(
    ('index', 'text', 'named'),
    [
        (0, "model = dict(type='FasterRCNN', width=32)", r'detector\.py'),
        (1, 'model = dict(width=32)', r'detector\.py'),
        (2, 'model = dict(momentum=0.1)', r'changes\.py'),
        (3, 'other weights', r'a\.pth'),
    ],
)
def test_a_changed_file_is_named(files, tmp_path, index, text, named):
    arms = [parse_arm(f'crosscl@{files[2]}+weights={files[3]}'), parse_arm('weights')]
    check_unchanged(tmp_path, str(files[1]), arms)
    check_unchanged(tmp_path, str(files[1]), arms)
    files[index].write_text(text)
    with pytest.raises(InputError, match=f'{named} has changed since the study in .* began; '):
        check_unchanged(tmp_path, str(files[1]), arms)


def test_comments_of_a_config_may_change(files, tmp_path):
    check_unchanged(tmp_path, str(files[1]), [])
    files[1].write_text("# a comment\n_base_ = ['./base.py']\n")
    check_unchanged(tmp_path, str(files[1]), [])


def test_a_removed_checkpoint_is_named(files, tmp_path):
    arms = [parse_arm(f'weights={files[3]}')]
    check_unchanged(tmp_path, str(files[1]), arms)
    files[3].unlink()
    with pytest.raises(InputError, match=r'a\.pth in --arms does not exist; restore it'):
        check_unchanged(tmp_path, str(files[1]), arms)


def test_a_config_that_imports_classes_has_a_digest(tmp_path):
    config = tmp_path / 'lazy.py'
    config.write_text(
        'from mmengine.config import read_base\n'
        'from mmdet.models import FasterRCNN\n'
        'model = dict(type=FasterRCNN, width=64)\n'
    )
    for _ in range(2):
        check_unchanged(tmp_path, str(config), [])
    assert list(json.loads((tmp_path / 'inputs.json').read_text())) == [str(config)]
