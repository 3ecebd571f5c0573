import itertools

import numpy as np
import pytest

from mmcrosscl.datasets.demo.cutouts import CLASSES, PACKAGES, open_cutout, split_sources

pytestmark = pytest.mark.skipif(
    not all(path.is_dir() for path in PACKAGES),
    reason=f'needs: apt-get install {" ".join(PACKAGES.values())}',
)


@pytest.mark.parametrize('seed', [0, 1])
def test_no_source_of_the_test_set_is_in_the_training_set(seed):
    training, test = split_sources(seed)
    assert list(training.cutouts) == list(test.cutouts) == list(CLASSES)
    for name in CLASSES:
        first, second = set(training.cutouts[name]), set(test.cutouts[name])
        assert len(first) >= 5 and len(second) >= 2 and not first & second
        assert 0.2 < len(second) / len(first | second) < 0.4
    assert training.photos and test.photos and not set(training.photos) & set(test.photos)


def test_the_seed_determines_the_split():
    assert split_sources(3) == split_sources(3) != split_sources(4)


def test_mirrored_copies_and_drawings_are_omitted():
    sources = split_sources()
    paths = [path for part in sources for files in part.cutouts.values() for path in files]
    assert len(paths) > 200
    for path in paths:
        assert not any(word in str(path) for word in ('mirror', 'flip', 'cartoon', 'toys'))
    assert not {'hedgehog', 'bee'} & {path.stem for path in paths}


def test_no_two_cut_outs_have_the_same_outline():
    # the outlines of recolored copies agree, also if one is mirrored
    training, test = split_sources()
    for name in CLASSES:
        outlines = {
            path: np.asarray(open_cutout(path).getchannel('A').resize((64, 64))) > 127
            for path in training.cutouts[name] + test.cutouts[name]
        }
        for (one, first), (two, second) in itertools.combinations(outlines.items(), 2):
            equal = max((first == second).mean(), (first == second[:, ::-1]).mean())
            assert equal < 0.99 or first.mean() > 0.95 or name == 'sign', (one, two)
