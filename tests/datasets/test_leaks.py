from mmcrosscl.datasets.leaks import shared_images


def test_equal_contents_are_found_under_another_name(tmp_path):
    contents = dict(a=b'one', b=b'two', c=b'three', d=b'one', e=b'six', f=b'longer than all')
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    test, training = (
        [dict(img_path=str(tmp_path / name)) for name in names] for names in ('abc', 'def')
    )
    assert shared_images(test, training) == [(test[0]['img_path'], training[0]['img_path'])]
