import pytest

from mmcrosscl.errors import InputError
from mmcrosscl.studies import Arm, parse_arm


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'coco.pth').touch()
    (tmp_path / 'wide.py').touch()


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('random', Arm('random')),
        ('global', Arm('global', 'global')),
        ('crosscl', Arm('crosscl', 'crosscl')),
        ('weights', Arm('weights', weights='own')),
        ('weights=coco.pth', Arm('weights=coco', weights='{}/coco.pth')),
        ('crosscl+weights', Arm('crosscl+weights', 'crosscl', 'own')),
        (
            'crosscl+weights=coco.pth',
            Arm('crosscl+weights=coco', 'crosscl', '{}/coco.pth'),
        ),
        ('within@wide.py', Arm('within@wide', 'within', changes='{}/wide.py')),
        (
            'within@wide.py+weights=coco.pth',
            Arm('within@wide+weights=coco', 'within', '{}/coco.pth', '{}/wide.py'),
        ),
    ],
)
def test_arms_are_parsed(text, expected, tmp_path):
    found = parse_arm(text)
    assert found.name == expected.name and found.terms == expected.terms
    assert found.weights == (expected.weights and expected.weights.format(tmp_path.resolve()))
    assert found.changes == (expected.changes and expected.changes.format(tmp_path.resolve()))
    assert found.is_random == (text == 'random')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('scratch', 'arm scratch is unknown'),
        ('crosscl+coco.pth', 'is unknown'),
        ('weights=absent.pth', r'absent\.pth does not exist'),
        ('crosscl@absent.py', r'absent\.py does not exist'),
    ],
)
def test_invalid_arms_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_arm(text)
