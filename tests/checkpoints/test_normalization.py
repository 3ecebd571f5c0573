"""The input format of checkpoints."""

import ast

import pytest
import torch
from mmengine.config import Config

from mmcrosscl.checkpoints import InputFormat, convert, identify
from mmcrosscl.checkpoints.normalization import CAFFE, IMAGENET, NONE
from mmcrosscl.errors import InputError
from tests.checkpoints.makers import crosscl, moco, resnet

BGR = InputFormat((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), 'bgr', None)
RGB = InputFormat(IMAGENET.mean, IMAGENET.std, 'rgb', None)


def detector(text=None, depth=18, **meta):
    """Return a checkpoint of MMDetection with a config text."""
    meta |= {} if text is None else dict(cfg=text)
    return dict(state_dict=resnet('backbone.', depth), meta=meta)


def config(preprocessor, backbone=None, kind='mmdet.RetinaNet'):
    model = dict(type=kind, backbone=backbone or {}, data_preprocessor=preprocessor)
    return Config(dict(model=model, seed=1)).pretty_text


def test_a_dict_is_the_inverse_of_to_dict():
    for value in (IMAGENET, CAFFE, BGR):
        stored = value.to_dict()
        assert InputFormat.from_dict(stored) == value
        # the file contains only plain objects
        assert ast.literal_eval(repr(stored)) == stored


@pytest.mark.parametrize(
    'change',
    [
        dict(mean=[1, 2]),
        dict(mean='rgb'),
        dict(mean=[1, 2, float('nan')]),
        dict(std=[1, 0, 1]),
        dict(channel_order='grb'),
        dict(style='torch'),
        dict(extra=1),
    ],
)
def test_an_invalid_dict_is_named(change):
    values = IMAGENET.to_dict() | change
    with pytest.raises(InputError, match='input_format of the checkpoint is .*; expected a dict'):
        InputFormat.from_dict(values)
    with pytest.raises(InputError, match='input_format of the checkpoint is'):
        identify(detector(input_format=values))


@pytest.mark.parametrize('values', [None, [], 'rgb'])
def test_something_other_than_a_dict_is_named(values):
    with pytest.raises(InputError, match='input_format of the checkpoint is'):
        InputFormat.from_dict(values)


@pytest.mark.parametrize(
    'checkpoint, expected',
    [
        (lambda: detector(), RGB),
        (lambda: detector(input_format=BGR.to_dict()), BGR),
        (lambda: crosscl().state_dict(), RGB),
        (lambda: moco(2), RGB),
        (lambda: resnet(''), RGB),
        # MMDetection loads BGR images
        (lambda: detector(config(dict(mean=BGR.mean, std=BGR.std))), BGR),
        (lambda: detector(config(dict(mean=RGB.mean, std=RGB.std, bgr_to_rgb=True))), RGB),
        (
            lambda: detector(config(dict(type='DetDataPreprocessor'))),
            InputFormat(NONE.mean, NONE.std, 'bgr'),
        ),
        (
            lambda: detector(config(dict(mean=[127.5], std=[127.5], to_rgb=True))),
            InputFormat((127.5,) * 3, (127.5,) * 3, 'rgb'),
        ),
        (
            lambda: detector(f'data_preprocessor = dict(mean={BGR.mean}, std={list(BGR.std)})'),
            BGR,
        ),
        # releases before MMEngine
        (
            lambda: detector(
                config=f'img_norm_cfg = dict(mean={BGR.mean}, std={BGR.std}, to_rgb=False)'
            ),
            BGR,
        ),
        # mmcrosscl loads RGB images
        (lambda: detector(config(dict(mean=RGB.mean, std=RGB.std), kind='mmcrosscl.CrossCL')), RGB),
        (
            lambda: detector(
                config(
                    dict(
                        type='mmcrosscl.ViewPreprocessor',
                        mean=BGR.mean,
                        std=BGR.std,
                        rgb_to_bgr=True,
                    ),
                    kind='mmcrosscl.CrossCL',
                )
            ),
            BGR,
        ),
        # the default of CrossCL is no normalization
        (lambda: detector('model = dict(type="CrossCL")'), NONE),
        (
            lambda: detector(config(dict(mean=BGR.mean, std=[1.0] * 3), dict(style='caffe')), 50),
            CAFFE,
        ),
        (lambda: detector(config(dict(mean=RGB.mean, std=RGB.std, to_rgb=True)), 50), IMAGENET),
    ],
)
def test_the_input_format_is_that_of_the_checkpoint(checkpoint, expected):
    assert identify(checkpoint()).input_format == expected


@pytest.mark.parametrize(
    'text',
    [
        '',
        'model = ',
        'model = dict(data_preprocessor=dict(mean=means(), std=[1, 1, 1]))',
        'model = dict(data_preprocessor=dict(mean=[1, 2], std=[1, 1, 1]))',
        'model = dict(data_preprocessor=dict(mean=[1, 2, 3], std=[0, 0, 0]))',
        'model = ' + '[' * 10_000,
        'model = ' + '-' * 100_000 + '1',
        'model = 1\0',
        'model = dict(**data_preprocessor)',
        'model = dict(data_preprocessor=preprocessor)',
        'model = dict(data_preprocessor=dict(mean=[1, 2, 3], std=[1, 1, 1], to_rgb=rgb))',
        'img_norm_cfg = 5',
        '#' * (10**6 + 1),
    ],
)
def test_a_config_that_defines_nothing_is_ignored(text):
    assert identify(detector(text)).input_format == RGB


def test_code_in_the_config_is_not_run(tmp_path):
    sign = tmp_path / 'sign'
    text = f'import os\nmodel = dict(data_preprocessor=dict(mean=os.system("touch {sign}")))'
    identify(detector(text))
    assert not sign.exists()


@pytest.mark.parametrize(
    'author, pixels, expected',
    [
        ('mmcrosscl', {}, IMAGENET),
        ('MOCO', {}, IMAGENET),
        ('torchvision', {}, IMAGENET),
        ('Caffe2', {}, CAFFE),
        ('Detectron2 Model Zoo', {}, CAFFE),
        (None, {}, CAFFE),
        (None, dict(pixel_mean=RGB.mean, pixel_std=RGB.std), IMAGENET),
        ('MOCO', dict(pixel_mean=CAFFE.mean, pixel_std=CAFFE.std), CAFFE),
        (None, dict(pixel_mean=BGR.mean, pixel_std=BGR.std), BGR),
    ],
)
def test_detectron2_is_identified_by_its_author_and_pixels(author, pixels, expected):
    contents = convert(resnet('', 50), 'detectron2').contents()
    assert InputFormat.from_dict(contents.pop('input_format')) == IMAGENET
    contents['__author__'] = author
    # Detectron2 stores them as (3, 1, 1)
    contents['model'] = dict(contents['model']) | {
        name: torch.tensor(value).view(3, 1, 1) for name, value in pixels.items()
    }
    found = identify(contents).input_format
    assert found.mean == pytest.approx(expected.mean) and found.std == pytest.approx(expected.std)
    assert found.channel_order == expected.channel_order
    assert found.style == (expected.style or 'pytorch')


@pytest.mark.parametrize('to', ['crosscl', 'mmdet', 'mmdet-backbone', 'detectron2'])
def test_a_converted_file_stores_the_input_format(to):
    checkpoint = detector(depth=50, input_format=CAFFE.to_dict())
    conversion = convert(checkpoint, to)
    assert conversion.input_format == CAFFE
    assert identify(conversion.contents()).input_format == CAFFE
    assert not conversion.notes and not conversion.warnings
