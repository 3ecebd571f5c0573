import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcrosscl.datasets import label_subsets, write_label_subsets
from mmcrosscl.errors import InputError


def coco(classes: list[set[int]]) -> dict:
    """Return a COCO file with an image per set of classes."""
    annotations = [
        dict(id=10 * image + number, image_id=image, category_id=number, bbox=[0, 0, 1, 1])
        for image, found in enumerate(classes)
        for number in sorted(found)
    ]
    return dict(
        info=dict(year=2026),
        images=[dict(id=image, file_name=f'{image}.jpg') for image in range(len(classes))],
        annotations=annotations,
        categories=[dict(id=number, name=f'class {number}') for number in range(5)],
    )


images = st.lists(st.sets(st.integers(0, 4), max_size=3), min_size=12, max_size=60).filter(any)


@given(classes=images, fold=st.integers(0, 3))
def test_subsets_are_nested_and_keep_every_class(classes, fold):
    sizes = [5, 8, len(classes)]
    subsets = label_subsets(coco(classes), sizes, fold)
    ids = [{image['id'] for image in subsets[size]['images']} for size in sizes]
    assert ids[0] < ids[1] <= ids[2] == set(range(len(classes)))
    everything = set().union(*classes)
    for size, chosen in zip(sizes, ids):
        subset = subsets[size]
        assert len(chosen) == size
        found = {annotation['category_id'] for annotation in subset['annotations']}
        assert found == everything
        assert {annotation['image_id'] for annotation in subset['annotations']} <= chosen
        assert subset['info'] == dict(year=2026) and len(subset['categories']) == 5


def test_classes_keep_their_shares():
    # one image in two has class 0, one in four class 1, one in ten class 2, one in five no box
    classes = [
        {0} if i % 20 < 10 else {1} if i % 20 < 15 else {2} if i % 20 < 16 else set()
        for i in range(400)
    ]
    subset = label_subsets(coco(classes), [80], fold=1)[80]
    found = [annotation['category_id'] for annotation in subset['annotations']]
    for number, expected in {0: 40, 1: 20, 2: 4}.items():
        assert abs(found.count(number) - expected) <= 2
    empty = 80 - len({annotation['image_id'] for annotation in subset['annotations']})
    assert abs(empty - 16) <= 2


def test_images_with_several_classes_are_not_preferred():
    rng = np.random.default_rng(0)
    classes = [set(rng.integers(0, 5, rng.integers(1, 6)).tolist()) for _ in range(400)]
    for size in (20, 80):
        subset = label_subsets(coco(classes), [size])[size]
        found = [annotation['category_id'] for annotation in subset['annotations']]
        for number in range(5):
            expected = size * sum(number in each for each in classes) / 400
            assert abs(found.count(number) - expected) < 2


def test_images_and_annotations_keep_their_order():
    file = coco([{i % 5, (i // 5) % 5} for i in range(100)])
    subset = label_subsets(file, [30])[30]
    for name in ('images', 'annotations'):
        ids = [each['id'] for each in subset[name]]
        assert ids == sorted(ids)


def test_crowds_do_not_represent_a_class():
    file = coco([{0, i % 5} for i in range(20)])
    for annotation in file['annotations']:
        annotation['iscrowd'] = int(annotation['category_id'] == 4)
    subset = label_subsets(file, [4])[4]
    assert {each['category_id'] for each in subset['annotations']} >= {0, 1, 2, 3}


def test_folds_differ_and_are_reproducible():
    file = coco([{i % 5} for i in range(100)])
    first, second = (label_subsets(file, [20], fold)[20]['images'] for fold in (0, 1))
    assert first != second
    assert first == label_subsets(file, [20], 0)[20]['images']


def test_shares_are_shares_of_the_images():
    subsets = label_subsets(coco([{i % 5} for i in range(200)]), [0.1, 0.5])
    assert [len(subset['images']) for subset in subsets.values()] == [20, 100]


@pytest.mark.parametrize(
    ('sizes', 'message'),
    [
        ([0], 'subset size 0 is out of range'),
        ([21], 'a number from 1 to 20'),
        ([1.5], 'is out of range'),
        ([10, 0.5], 'two of the subset sizes 10, 0.5 are 10 images; use each size only once'),
        ([3], 'the subset of 3 images has no box of the class class'),
    ],
)
def test_invalid_sizes_are_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        label_subsets(coco([{i % 5} for i in range(20)]), sizes)


def test_a_file_without_boxes_is_refused():
    with pytest.raises(InputError, match='has no boxes'):
        label_subsets(coco([set()] * 20), [10])


def test_equal_ids_are_refused():
    file = coco([{i % 5} for i in range(20)])
    file['images'][3]['id'] = 2
    with pytest.raises(InputError, match='two images of the COCO file have the id 2'):
        label_subsets(file, [10])


def test_files_are_named_by_fold_and_size(tmp_path):
    (tmp_path / 'train.json').write_text(json.dumps(coco([{i % 5} for i in range(100)])))
    paths = write_label_subsets(tmp_path / 'train.json', [10, 0.5], 2, tmp_path / 'out')
    assert [path.name for path in paths] == [
        'train.1@10images.json', 'train.1@50.json', 'train.2@10images.json', 'train.2@50.json',
    ]  # fmt: skip
    assert len(json.loads(paths[0].read_text())['images']) == 10
    assert 'by_id' not in json.loads(paths[0].read_text())


def test_nothing_is_written_if_a_size_is_invalid(tmp_path):
    (tmp_path / 'train.json').write_text(json.dumps(coco([{i % 5} for i in range(20)])))
    with pytest.raises(InputError):
        write_label_subsets(tmp_path / 'train.json', [10, 3], 1, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / 'train.json').write_text(json.dumps(coco([{i % 5} for i in range(20)])))
    (tmp_path / 'out').write_text('a file')
    with pytest.raises(InputError, match='cannot write .*out/train.1@10images.json'):
        write_label_subsets(tmp_path / 'train.json', [10], 1, tmp_path / 'out')
    assert (tmp_path / 'out').read_text() == 'a file'
