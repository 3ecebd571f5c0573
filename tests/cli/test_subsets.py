"""The command `mmcrosscl subsets`."""

import json

from tests.datasets.test_label_subsets import coco


def test_files_are_written_or_the_error_is_one_sentence(command, tmp_path):
    (tmp_path / 'train.json').write_text(json.dumps(coco([{i % 5} for i in range(100)])))
    words = ('subsets', tmp_path / 'train.json', '--out', tmp_path / 'out', '--sizes')
    done = command(*words, '3')
    assert done.status == 1 and done.out == ''
    assert done.err.startswith('error: the subset of 3 images has no box of the class')
    assert len(done.err.splitlines()) == 1
    done = command(*words, '10', '50%', '--folds', '2')
    assert done.status == 0 and len(done.out.splitlines()) == 4
    assert len(json.loads((tmp_path / 'out/train.2@50.json').read_text())['images']) == 50
