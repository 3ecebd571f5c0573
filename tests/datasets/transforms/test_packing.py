import numpy as np
import pytest

from mmcrosscl.datasets.transforms import (
    PackViews,
    RandomGaussianBlur,
    RegionPairs,
    TwoCrops,
)
from mmcrosscl.errors import InputError
from tests.datasets.transforms.images import photo


def results():
    out = dict(img=photo(), img_path='a.png', ori_shape=(400, 600), other=1)
    return RegionPairs().transform(TwoCrops(scale=64).transform(out))


def test_views_regions_and_origin_are_packed():
    given = results()
    packed = PackViews().transform(given)
    assert packed.keys() == {'inputs', 'data_samples'}
    assert packed['inputs'] is given['img']
    sample = packed['data_samples']
    for name in ('query_regions', 'key_regions', 'paired'):
        assert np.array_equal(sample.get(name), given[name])
    assert sample.metainfo.keys() == {'img_path', 'ori_shape', 'img_shape', 'flip', 'crops'}
    assert 'photometric' not in sample


def test_only_the_selected_meta_keys_are_kept():
    sample = PackViews(meta_keys=['img_path', 'absent']).transform(results())['data_samples']
    assert sample.metainfo == dict(img_path='a.png')


def test_photometric_plans_for_the_device_are_packed():
    given = RandomGaussianBlur(prob=1, on_device=True).transform(results())
    sample = PackViews().transform(given)['data_samples']
    assert [plan[0][0] for plan in sample.photometric] == ['blur', 'blur']


def test_missing_regions_are_named():
    with pytest.raises(InputError, match="no 'query_regions'; add mmcrosscl.RegionPairs before"):
        PackViews().transform(TwoCrops(scale=64).transform(dict(img=photo())))
