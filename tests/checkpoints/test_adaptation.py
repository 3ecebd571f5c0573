"""After a conversion, a model computes the same features from the same image file."""

import cv2
import numpy as np
import pytest
import torch
import torchvision
from mmdet.registry import MODELS as MMDET
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS as MMPRETRAIN
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from mmcrosscl.checkpoints import convert, convert_file, convert_for_model, identify
from mmcrosscl.checkpoints.normalization import CAFFE, IMAGENET, InputFormat
from mmcrosscl.errors import InputError
from mmcrosscl.models import ViewPreprocessor
from tests.checkpoints.makers import resnet, varied

RGB = dict(mean=list(IMAGENET.mean), std=list(IMAGENET.std))
BGR = dict(mean=RGB['mean'][::-1], std=RGB['std'][::-1])
# formats of the projects' detectors, and their classes
FORMATS = {
    'mmdet': dict(type='DetDataPreprocessor', **RGB, bgr_to_rgb=True),
    'rtmdet': dict(type='DetDataPreprocessor', **BGR),
    'bgr, std 1': dict(type='DetDataPreprocessor', mean=BGR['mean'], std=[1.0] * 3),
    'rgb, std 1': dict(
        type='DetDataPreprocessor', mean=RGB['mean'], std=[1.0] * 3, bgr_to_rgb=True
    ),
    'mmpretrain': dict(type='mmpretrain.ClsDataPreprocessor', **RGB, to_rgb=True),
    'crosscl': dict(type='mmcrosscl.ViewPreprocessor', **RGB),
    'crosscl, bgr': dict(type='mmcrosscl.ViewPreprocessor', **BGR, rgb_to_bgr=True),
    'none': dict(type='DetDataPreprocessor'),
}
RESNET = dict(type='ResNet', depth=18)
SMALL = dict(type='ResNet', depth=50, base_channels=16, stem_channels=16)
# its Focus layer has a padded convolution without a bias
FOCUS = dict(type='CSPDarknet', deepen_factor=0.33, widen_factor=0.375, out_indices=(1, 2, 3, 4))
# its patch embedding has a bias and no padding
SWIN = dict(type='SwinTransformer', embed_dims=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))


@pytest.fixture
def image(tmp_path):
    """A PNG file whose channels have different means."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (64, 96, 3)) * [1.0, 0.7, 0.4]
    cv2.imwrite(str(tmp_path / 'image.png'), pixels.astype(np.uint8))
    return tmp_path / 'image.png'


def build(preprocessor, backbone):
    """Build the part of a model that reads images, with random weights and statistics."""
    model = nn.Module()
    init_default_scope('mmdet')
    cfg = dict(FORMATS[preprocessor])
    model.data_preprocessor = (
        ViewPreprocessor(**{k: v for k, v in cfg.items() if k != 'type'})
        if 'View' in cfg['type']
        else MMPRETRAIN.build(cfg)
        if 'mmpretrain' in cfg['type']
        else MMDET.build(cfg)
    )
    model.backbone = MMDET.build(dict(backbone))
    model.backbone.load_state_dict(varied(model.backbone.state_dict()))
    return model.eval()


def checkpoint(model, preprocessor, backbone):
    """Return what MMEngine saves: the weights and the text of the config."""
    kind = 'mmcrosscl.CrossCL' if 'crosscl' in preprocessor else 'mmdet.RetinaNet'
    cfg = dict(type=kind, backbone=backbone, data_preprocessor=FORMATS[preprocessor])
    text = Config(dict(model=cfg)).pretty_text
    return dict(state_dict=model.state_dict(), meta=dict(cfg=text))


@torch.no_grad()
def stages(model, path):
    """Compute C2 to C5 of an image file with the model's own preprocessor."""
    pixels = torch.from_numpy(cv2.imread(str(path))).permute(2, 0, 1)
    if isinstance(model.data_preprocessor, ViewPreprocessor):
        views = [pixels.flip(0)[None].contiguous()] * 2
        inputs = model.data_preprocessor(dict(inputs=views, data_samples=[{}]))['inputs'][0]
    else:
        inputs = model.data_preprocessor(dict(inputs=[pixels], data_samples=None))['inputs']
    return model.backbone(inputs)


def assert_same(found, expected):
    assert len(found) == len(expected) == 4
    for x, y in zip(found, expected):
        assert y.std() > 0.01
        assert (x - y).abs().max() <= 1e-5 * y.abs().max()


def load(model, source):
    """Load a converted checkpoint and return the conversion; the source is not changed."""
    before = {name: value.clone() for name, value in source['state_dict'].items()}
    conversion = convert_for_model(source, model)
    assert all(torch.equal(value, before[n]) for n, value in source['state_dict'].items())
    model.load_state_dict(conversion.state_dict, strict=False)
    return conversion


@pytest.mark.parametrize('backbone', [RESNET, SMALL, FOCUS, SWIN], ids=lambda b: b['type'])
@pytest.mark.parametrize(
    'first, second',
    [
        ('mmdet', 'bgr, std 1'),
        ('mmdet', 'rtmdet'),
        ('mmdet', 'rgb, std 1'),
        ('rtmdet', 'bgr, std 1'),
        ('mmpretrain', 'bgr, std 1'),
        ('crosscl', 'rtmdet'),
        ('crosscl, bgr', 'rgb, std 1'),
        ('crosscl', 'crosscl, bgr'),
    ],
)
def test_another_order_and_std_give_the_same_features(image, backbone, first, second):
    for here, there in ((first, second), (second, first)):
        source, model = build(here, backbone), build(there, backbone)
        expected = stages(source, image)
        conversion = load(model, checkpoint(source, here, backbone))
        assert_same(stages(model, image), expected)
        (note,) = conversion.notes
        assert 'is adapted to the model' in note and not conversion.warnings


@pytest.mark.parametrize('first, second', [('mmdet', 'mmpretrain'), ('crosscl', 'mmdet')])
def test_the_same_format_changes_nothing(first, second):
    source, model = build(first, RESNET), build(second, RESNET)
    conversion = load(model, checkpoint(source, first, RESNET))
    assert not conversion.notes and not conversion.warnings
    name = 'backbone.conv1.weight'
    assert torch.equal(conversion.state_dict[name], source.state_dict()[name])


@pytest.mark.parametrize('there', ['none', 'mmdet'])
def test_a_bias_without_padding_includes_another_mean(image, there):
    here = 'mmdet' if there == 'none' else 'none'
    source, model = build(here, SWIN), build(there, SWIN)
    expected = stages(source, image)
    conversion = load(model, checkpoint(source, here, SWIN))
    assert_same(stages(model, image), expected)
    assert 'a shifted bias' in conversion.notes[0] and not conversion.warnings


@pytest.mark.parametrize('backbone', [RESNET, FOCUS], ids=lambda b: b['type'])
def test_another_mean_is_named_with_the_settings_that_make_it_exact(image, backbone):
    source, model = build('mmdet', backbone), build('none', backbone)
    expected = stages(source, image)
    conversion = load(model, checkpoint(source, 'mmdet', backbone))
    (warning,) = conversion.warnings
    assert 'mean=[103.53, 116.28, 123.675] and model.data_preprocessor.std=[57.375' in warning
    model = build('rtmdet', backbone)
    load(model, checkpoint(source, 'mmdet', backbone))
    assert_same(stages(model, image), expected)


@pytest.mark.parametrize('style', ['pytorch', 'caffe'])
def test_the_other_placement_of_strides_is_refused(style):
    other = {'pytorch': 'caffe', 'caffe': 'pytorch'}[style]
    source = build('mmdet', dict(SMALL, style=style))
    saved = checkpoint(source, 'mmdet', dict(SMALL, style=style))
    with pytest.raises(InputError, match=f"convolutions; set model.backbone.style='{style}'"):
        convert_for_model(saved, build('mmdet', dict(SMALL, style=other)))
    assert convert_for_model(saved, build('mmdet', dict(SMALL, style=style))).state_dict


def test_basic_blocks_have_no_style():
    source = build('mmdet', dict(RESNET, style='caffe'))
    saved = checkpoint(source, 'mmdet', dict(RESNET, style='caffe'))
    assert convert_for_model(saved, build('mmdet', RESNET)).state_dict


def test_an_uncertain_first_convolution_is_refused_unless_the_formats_are_equal():
    class TwoStems(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 1)

    model = build('mmdet', RESNET)
    model.backbone = TwoStems()
    saved = dict(state_dict=model.state_dict(), meta=dict(input_format=IMAGENET.to_dict()))
    assert convert_for_model(saved, model).state_dict
    saved['meta']['input_format'] = dict(CAFFE.to_dict(), style=None)
    with pytest.raises(InputError, match='is not certain; set model.data_preprocessor'):
        convert_for_model(saved, model)
    with pytest.raises(InputError, match='is not certain; write a .pth file'):
        convert(saved, 'mmdet', flat=True)


def test_a_preprocessor_without_a_normalization_is_named():
    model = build('mmdet', RESNET)
    saved = checkpoint(model, 'mmdet', RESNET)
    model.data_preprocessor = nn.Identity()
    (warning,) = convert_for_model(saved, model).warnings
    assert 'is for RGB images with mean=[123.675, 116.28, 103.53]' in warning


@torch.no_grad()
def torchvision_stages(state, path):
    model = torchvision.models.resnet18()
    model.fc = nn.Identity()
    model.load_state_dict(state)
    layers = {f'layer{i}': f'c{i + 1}' for i in (1, 2, 3, 4)}
    cut = create_feature_extractor(model.eval(), layers)
    pixels = torch.from_numpy(cv2.imread(str(path))).permute(2, 0, 1).flip(0)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (IMAGENET.mean, IMAGENET.std))
    return list(cut(((pixels - mean) / std)[None]).values())


@pytest.mark.parametrize('first', ['bgr, std 1', 'rtmdet', 'crosscl, bgr', 'mmdet'])
def test_flat_formats_have_the_input_format_of_torchvision(image, first):
    source = build(first, RESNET)
    conversion = convert(checkpoint(source, first, RESNET), 'torchvision')
    assert_same(torchvision_stages(conversion.state_dict, image), stages(source, image))
    assert len(conversion.notes) == (first != 'mmdet') and not conversion.warnings
    assert identify(conversion.contents()).input_format == conversion.input_format


def test_the_key_encoder_in_a_flat_file_is_adapted_too(tmp_path):
    saved = dict(
        state_dict=resnet('backbone.') | resnet('key_encoder.backbone.') | resnet('neck.detector.'),
        meta=dict(input_format=dict(CAFFE.to_dict(), style=None)),
    )
    saved['state_dict'] |= {'key_encoder.steps': torch.tensor(3), 'queue.keys': torch.ones(2, 2)}
    state = convert(saved, 'crosscl', flat=True).state_dict
    for name, value in saved['state_dict'].items():
        if name.endswith('backbone.conv1.weight'):
            scale = torch.tensor(IMAGENET.std).view(3, 1, 1)
            torch.testing.assert_close(state[name], value.flip(1) * scale)
        else:
            assert torch.equal(state[name], value)


def test_what_a_flat_file_cannot_represent_is_named(tmp_path):
    torch.save(
        dict(state_dict=resnet('backbone.', 50), meta=dict(input_format=CAFFE.to_dict())),
        tmp_path / 'caffe.pth',
    )
    for to, name in (('timm', 'x.pth'), ('mmdet', 'x.safetensors')):
        with pytest.raises(InputError, match='convert it to mmdet or detectron2 in a .pth file'):
            convert_file(tmp_path / 'caffe.pth', tmp_path / name, to)
    shifted = InputFormat((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), 'bgr')
    saved = dict(state_dict=resnet('backbone.'), meta=dict(input_format=shifted.to_dict()))
    (warning,) = convert(saved, 'timm').warnings
    assert 'RGB images with mean=[3, 2, 1] and std=[58.395, 57.12, 57.375]' in warning


@pytest.mark.parametrize(
    'input_format, settings',
    [
        (
            IMAGENET,
            'MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], MODEL.PIXEL_STD [58.395, 57.12, 57.375], '
            'INPUT.FORMAT "RGB" and MODEL.RESNETS.STRIDE_IN_1X1 False.',
        ),
        (
            CAFFE,
            'MODEL.PIXEL_MEAN [103.53, 116.28, 123.675], MODEL.PIXEL_STD [1.0, 1.0, 1.0], '
            'INPUT.FORMAT "BGR" and MODEL.RESNETS.STRIDE_IN_1X1 True.',
        ),
    ],
)
def test_the_report_has_the_settings_of_detectron2(tmp_path, input_format, settings):
    torch.save(
        dict(state_dict=resnet('backbone.', 50), meta=dict(input_format=input_format.to_dict())),
        tmp_path / 'a.pth',
    )
    assert settings in convert_file(tmp_path / 'a.pth', tmp_path / 'b.pth', 'detectron2')
