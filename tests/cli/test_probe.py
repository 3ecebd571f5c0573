"""The command `mmcrosscl probe`."""

import pytest

from mmcrosscl.datasets.demo import write_demo_objects
from tests.evaluation.checkpoints import write_crosscl


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('probe')
    write_demo_objects(folder / 'objects', train=10, val=3)
    write_crosscl(folder / 'crosscl.pth')
    return folder


def words(root, *labels):
    annotations = root / 'objects/annotations'
    return (
        'probe', 'untrained', f'CrossCL={root}/crosscl.pth', '--train', annotations / 'train.json',
        '--test', annotations / 'val.json', '--view-size', '64', '--folds', '1', '--labels',
        *labels,
    )  # fmt: skip


def test_a_table_of_accuracies_is_printed(command, root):
    done = command(*words(root, '8', '90%'))
    assert done.status == 0, done.err
    assert '3 test images' in done.out and '8 images' in done.out and '90 % images' in done.out
    for name in ('untrained', 'CrossCL', 'C4', 'P3'):
        assert name in done.out


def test_images_that_are_not_found_name_their_option(command, root, tmp_path):
    moved = tmp_path / 'alone.json'
    moved.write_text((root / 'objects/annotations/val.json').read_text())
    done = command(*words(root, '8'), '--test', moved)
    assert done.status == 1 and done.err.count('\n') == 1
    assert '--test-images' in done.err


def test_an_unreadable_image_is_one_sentence(command, root):
    image = next((root / 'objects/val').iterdir())
    contents = image.read_bytes()
    try:
        image.write_bytes(b'no image')
        done = command(*words(root, '8'))
    finally:
        image.write_bytes(contents)
    assert done.status == 1 and f'{image.name} cannot be read' in done.err
