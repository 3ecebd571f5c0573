from mmcrosscl.engine.batches import data_samples


def test_the_samples_of_every_kind_of_batch():
    assert data_samples(dict(inputs=[], data_samples=[1, 2])) == [1, 2]
    # a semi-supervised detector of MMDetection
    branches = dict(sup=[1, None], unsup_teacher=[None, 2], unsup_student=(None, 3))
    assert data_samples(dict(data_samples=branches)) == [1, 2, 3]
    for batch in (None, [1], dict(inputs=[]), dict(data_samples=None)):
        assert data_samples(batch) == []
