"""The command `mmcrosscl similarity`."""

import json
import shutil

import pytest

from mmcrosscl.compare import _region
from mmcrosscl.datasets import UnlabeledDataset, write_shards
from mmcrosscl.datasets.demo import write_demo_objects
from tests.evaluation.checkpoints import write_crosscl, write_detector


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('similarity')
    write_demo_objects(folder / 'objects', train=2, val=10)
    write_crosscl(folder / 'crosscl.pth')
    write_detector(folder / 'detector.pth')
    return folder


SMALL = ('--view-size', '64', '--count', '8')


def test_a_table_and_files_are_written(command, root, tmp_path):
    done = command(
        'similarity', 'untrained', f'CrossCL={root}/crosscl.pth', f'{root}/detector.pth',
        '--data', root / 'objects/annotations/val.json', '--out', tmp_path / 'out', *SMALL,
    )  # fmt: skip
    assert done.status == 0, done.err
    for name in ('untrained', 'CrossCL', 'detector.pth', 'P3 and P4, between two views', 'CKA'):
        assert name in done.out
    contents = json.loads((tmp_path / 'out/similarity.json').read_text())
    names = [checkpoint['name'] for checkpoint in contents['checkpoints']]
    assert names == ['untrained', 'CrossCL', 'detector.pth']
    assert (tmp_path / 'out/maps.png').read_bytes().startswith(b'\x89PNG')


def test_a_region_can_be_chosen(command, root, tmp_path):
    image = root / 'objects/val/0003.jpg'
    done = command(
        'similarity', root / 'crosscl.pth', '--data', root / 'objects/val', *SMALL,
        '--out', tmp_path / 'out', '--region', image, '10', '20', '50', '60',
    )  # fmt: skip
    assert done.status == 0, done.err
    assert 'windows' in done.out and (tmp_path / 'out/maps.png').exists()


def test_the_first_readable_image_of_archives_is_drawn(command, root, tmp_path):
    dataset = UnlabeledDataset(data_root=str(root / 'objects/val'))
    write_shards(dataset, tmp_path / 'shards')
    done = command(
        'similarity', root / 'crosscl.pth', '--data', tmp_path / 'shards', *SMALL,
        '--out', tmp_path / 'out',
    )  # fmt: skip
    assert done.status == 0, done.err
    assert (tmp_path / 'out/maps.png').exists()
    shutil.copytree(root / 'objects/val', tmp_path / 'photos')
    (tmp_path / 'photos/0000.jpg').write_bytes(b'')
    view, box = _region(tmp_path / 'photos', None, 64, None)
    expected = _region(tmp_path / 'photos', None, 64, [f'{tmp_path}/photos/0001.jpg', *'0011'])
    assert (view == expected[0]).all() and len(box) == 4


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('absent.pth', '--data', '{root}/objects/val'), 'absent.pth does not exist'),
        (('{root}/crosscl.pth', '--data', '{root}/absent'), 'absent does not exist'),
        (('{root}/crosscl.pth', '--data', '{root}/crosscl.pth'), 'cannot be read as JSON'),
        (
            ('{root}/crosscl.pth', '{root}/crosscl.pth', '--data', '{root}/objects/val'),
            'is used twice',
        ),
        (
            (
                '{root}/crosscl.pth', '--data', '{root}/objects/val', '--out', '{root}/out',
                '--region', '{root}/objects/val/0003.jpg', '150', '20', '50', '60',
            ),
            'is not within',
        ),
        (
            (
                '{root}/crosscl.pth', '--data', '{root}/objects/val', '--out', '{root}/out',
                '--region', '{root}/objects/val/0003.jpg', 'a', '20', '50', '60',
            ),
            'expected four numbers',
        ),
        (
            ('absent.pth', '--data', '{root}/objects/val', '--region', 'a.jpg', '1', '2', '3', '4'),
            '--region is drawn in a file; pass --out too',
        ),
        (('{root}/crosscl.pth', '--data', '{root}/objects/val', '--count', '1'), 'at least 2'),
        (('untrained', '--data', '{root}/objects/val'), 'an untrained model needs a config'),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_writes_nothing(command, root, words, message):
    done = command('similarity', *(word.format(root=root) for word in words), '--view-size', '64')
    assert done.status == 1
    assert message in done.last and done.last.startswith('error: ')
    assert not (root / 'out').exists()
