import json

import pytest
import torch
from torch.nn import functional as F

from mmcrosscl.datasets.demo import write_demo_objects
from mmcrosscl.errors import InputError
from mmcrosscl.evaluation import probe_checkpoints
from mmcrosscl.evaluation.probe import PENALTIES, fit
from tests.evaluation.checkpoints import write_crosscl, write_detector


def clusters(count: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return vectors around the corners of a simplex, and their corners."""
    classes = torch.arange(count) % 4
    return F.one_hot(classes, 10).float() + spread * torch.randn(count, 10), classes


def test_separate_classes_are_learned_and_noise_is_not():
    x, classes = clusters(80, 0.1)
    unseen, truth = clusters(200, 0.1)
    assert (fit(x, classes)(unseen) == truth).all()
    guessed = fit(torch.randn(80, 10), classes)(torch.randn(200, 10)) == truth
    assert guessed.double().mean() < 0.4


@pytest.mark.parametrize(('count', 'channels'), [(60, 10), (12, 30)])
def test_the_penalty_is_that_of_the_best_direct_leave_one_out(count, channels):
    x = torch.randn(count, channels).double() * torch.linspace(0.1, 5, channels)
    classes = (x[:, -1] > 0).long() + (x[:, -2] > 1).long()
    z = (x - x.mean(0)) / x.std(0)
    y = F.one_hot(classes).double()

    def predict(rows, penalty, unseen):
        a, b = z[rows], y[rows]
        centered = a - a.mean(0)
        gram = centered.T @ centered + penalty * count * torch.eye(channels).double()
        weights = torch.linalg.solve(gram, centered.T @ (b - b.mean(0)))
        return (unseen - a.mean(0)) @ weights + b.mean(0)

    errors = {}
    for penalty in PENALTIES:
        errors[penalty] = 0.0
        for out in range(count):
            kept = torch.arange(count) != out
            errors[penalty] += float((predict(kept, penalty, z[out]) - y[out]).square().sum())
    best = min(errors, key=errors.get)
    unseen = torch.randn(50, channels).double()
    scores = predict(slice(None), best, (unseen - x.mean(0)) / x.std(0))
    assert (fit(x, classes)(unseen) == scores.argmax(1)).all()


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('probe')
    write_demo_objects(folder / 'objects', train=12, val=6)
    write_crosscl(folder / 'crosscl.pth')
    write_detector(folder / 'detector.pth')
    return folder


def files(root):
    annotations = root / 'objects/annotations'
    return annotations / 'train.json', annotations / 'val.json'


@pytest.mark.slow(10)
def test_checkpoints_are_compared_on_the_same_boxes(root):
    checkpoints = dict(
        untrained=None, a=str(root / 'crosscl.pth'), b=str(root / 'crosscl.pth'),
        detector=str(root / 'detector.pth'),
    )  # fmt: skip
    probe = probe_checkpoints(checkpoints, *files(root), [8, 10], folds=2, view_size=64)
    boxes = json.loads(files(root)[1].read_text())['annotations']
    assert probe.objects == len(boxes) and probe.images == 6
    assert {'c4', 'c5', 'p3', 'p4'} <= probe.accuracies.keys()
    for rows in probe.accuracies.values():
        assert 'a' not in rows or rows['a'] == rows['b']
        for row in rows.values():
            assert list(row) == [8, 10]
            assert all(0 <= x.low <= x.value <= x.high <= 1 for x in row.values())
    text = probe.table()
    assert '8 images' in text and 'detector' in text and 'P4' in text


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(folds=0), '--folds is 0'),
        (dict(labels=[50]), 'subset'),
        (dict(test='{train}', labels=[12]), '12 test images are also among the training images'),
        (dict(test='absent.json'), r'absent\.json does not exist'),
    ],
)
def test_bad_input_is_one_sentence(root, change, message):
    train, test = files(root)
    arguments = dict(train=train, test=test, labels=[8], view_size=64) | change
    arguments['test'] = str(arguments['test']).format(train=train)
    with pytest.raises(InputError, match=message):
        probe_checkpoints(dict(a=str(root / 'crosscl.pth')), **arguments)


@pytest.mark.slow(10)
def test_classes_are_matched_by_name(root, tmp_path):
    train, test = files(root)
    coco = json.loads(test.read_text())
    for entry in coco['categories']:
        entry['id'] = 5 - entry['id']
    for entry in coco['annotations']:
        entry['category_id'] = 5 - entry['category_id']
    (tmp_path / 'val.json').write_text(json.dumps(coco))
    first, second = (
        probe_checkpoints(
            dict(untrained=None, a=str(root / 'crosscl.pth')), train, path, [8], view_size=64,
            test_images=root / 'objects/val',
        )
        for path in (test, tmp_path / 'val.json')
    )  # fmt: skip
    assert first.accuracies == second.accuracies


def test_a_category_without_training_boxes_is_named(root, tmp_path):
    train, test = files(root)
    coco = json.loads(test.read_text())
    coco['annotations'][0]['category_id'] = 99
    (tmp_path / 'val.json').write_text(json.dumps(coco))
    with pytest.raises(InputError, match='boxes of the category 99'):
        probe_checkpoints(
            dict(a=str(root / 'crosscl.pth')), train, tmp_path / 'val.json', [8], view_size=64,
            test_images=root / 'objects/val',
        )  # fmt: skip
