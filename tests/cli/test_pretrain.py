"""`mmcrosscl pretrain`. The function that it calls is tested in tests/test_api.py."""

import re

import pytest

RTMDET = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'


@pytest.mark.slow(20)
def test_the_command_prints_what_it_does_and_resumes(photos, tmp_path, command):
    words = ['pretrain', '--detector', RTMDET, '--data', photos, '--work-dir', tmp_path / 'out',
             '--batch-size', 2, '--from-scratch']  # fmt: skip
    options = ['--cfg-options', 'train_pipeline.1.scale=64']
    done = command(*words, '--iters', 1, *options)
    assert done.status == 0, done.err
    for pattern in (
        r'levels +P4 \(stride 16, 96 channels\) and P3 \(stride 8, 96 channels\)$',
        r'schedule +1 iterations of 2 images \(0\.12 epochs of 16 images\)$',
        r'time +about 0:00:\d\d, at [\d.]+ s per iteration on this machine$',
        r'^  tools/dist_train\.sh \S+/pretrain_rtmdet_tiny_8xb32-300e_coco\.py 1 --work-dir ',
        r'^   71 %  trained',
        r'^   29 %  not trained, because no loss term uses these layers \(',
        r'^  start +random weights$',
        r'^Next: .* YOUR_CONFIG\.py, which inherits from mmdet::\S+ and sets your dataset$',
        r'^  mmcrosscl train YOUR_CONFIG\.py --cfg-options pretrained=\S+_pretrained\.pth$',
    ):
        assert re.search(pattern, done.out, re.MULTILINE), pattern
    config = tmp_path / 'out/pretrain_rtmdet_tiny_8xb32-300e_coco.py'
    config.write_text(config.read_text().replace('max_iters=1', 'max_iters=3'))
    done = command(*words, '--resume', *options)
    assert done.status == 0 and (tmp_path / 'out/iter_3.pth').is_file()
    assert 'max_iters=3' in config.read_text()


def test_the_terms_of_the_help_are_those_of_the_package():
    from mmcrosscl.cli.pretrain import TERMS
    from mmcrosscl.detectors import TERMS as EXPECTED

    assert TERMS == EXPECTED
