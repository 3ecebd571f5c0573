import pytest

from mmcrosscl.errors import InputError
from mmcrosscl.studies import Arm, parse_arm
from mmcrosscl.studies.arms import check_files


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'coco.pth').touch()
    (tmp_path / 'wide.py').touch()


@pytest.mark.parametrize(
    ('text', 'name', 'terms', 'weights', 'changes'),
    [
        ('random', 'random', None, None, None),
        ('global', 'global', 'global', None, None),
        ('crosscl', 'crosscl', 'crosscl', None, None),
        ('weights', 'weights', None, 'own', None),
        ('weights=coco.pth', 'weights=coco', None, 'coco.pth', None),
        ('crosscl+weights', 'crosscl+weights', 'crosscl', 'own', None),
        ('crosscl+weights=coco.pth', 'crosscl+weights=coco', 'crosscl', 'coco.pth', None),
        ('within@wide.py', 'within@wide', 'within', None, 'wide.py'),
        ('crosscl@my+weights_x.py', 'crosscl@my+weights_x', 'crosscl', None, 'my+weights_x.py'),
        ('within@c++/a@b.py+weights', 'within@a@b+weights', 'within', 'own', 'c++/a@b.py'),
        (
            'within@wide.py+weights=coco.pth', 'within@wide+weights=coco', 'within', 'coco.pth',
            'wide.py',
        ),
    ],
)  # fmt: skip
def test_arms_are_parsed(text, name, terms, weights, changes, tmp_path):
    def absolute(path):
        return path if path in (None, 'own') else str(tmp_path.resolve() / path)

    found = parse_arm(text)
    assert found == Arm(terms, absolute(weights), absolute(changes))
    assert found.name == name and found.is_random == (text == 'random')
    # the text of a study works from any folder
    assert parse_arm(found.text) == found


@pytest.mark.parametrize('text', ['scratch', 'crosscl+coco.pth'])
def test_unknown_arms_are_refused(text):
    with pytest.raises(InputError, match=r'arm .* is unknown'):
        parse_arm(text)


@pytest.mark.parametrize('text', ['weights=absent.pth', 'crosscl@absent.py'])
def test_a_file_is_checked_apart_because_results_outlast_it(text):
    arm = parse_arm(text)
    with pytest.raises(InputError, match=r'absent\.\w+ does not exist'):
        check_files(arm)


def test_files_that_exist_pass():
    for text in ('random', 'weights', 'crosscl@wide.py+weights=coco.pth'):
        check_files(parse_arm(text))
