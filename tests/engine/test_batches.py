from types import SimpleNamespace

from mmcrosscl.engine.batches import batch_size, data_samples


def test_the_size_of_a_batch_of_several_datasets_is_the_mean():
    for size, expected in ((4, 4), ([2, 6], 4)):
        loader = SimpleNamespace(batch_sampler=SimpleNamespace(batch_size=size))
        assert batch_size(loader) == expected
    assert batch_size(SimpleNamespace(batch_sampler=None)) == 1


def test_the_samples_of_every_kind_of_batch():
    assert data_samples(dict(inputs=[], data_samples=[1, 2])) == [1, 2]
    # a semi-supervised detector of MMDetection
    branches = dict(sup=[1, None], unsup_teacher=[None, 2], unsup_student=(None, 3))
    assert data_samples(dict(data_samples=branches)) == [1, 2, 3]
    for batch in (None, [1], dict(inputs=[]), dict(data_samples=None)):
        assert data_samples(batch) == []
