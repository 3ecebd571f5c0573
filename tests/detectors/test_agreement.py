"""The pre-training model and the detector compute the same features from the same image file."""

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from torch import nn

from mmcrosscl.checkpoints import convert_for_model, model_input_format
from mmcrosscl.datasets.transforms import LoadImage
from mmcrosscl.detectors import Schedule, config_text, dry_run, find_detector
from mmcrosscl.engine import load_config, read_config
from mmcrosscl.structures import ViewPairSample

CONFIGS = [
    'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'yolox/yolox_tiny_8xb8-300e_coco.py',
    'retinanet/retinanet_r18_fpn_1x_coco.py',
    'pafpn/faster-rcnn_r50_pafpn_1x_coco.py',
    'dyhead/atss_r50_fpn_dyhead_1x_coco.py',
    'dino/dino-4scale_r50_8xb2-12e_coco.py',
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
    'convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    'hrnet/faster-rcnn_hrnetv2p-w18-1x_coco.py',
    'faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco.py',
]
SIZE = 128


def without_weights(settings):
    for part in ('backbone', 'neck'):
        for item in settings[part] if isinstance(settings[part], list) else [settings[part]]:
            item.pop('init_cfg', None)
    return settings


@pytest.mark.slow(20)
@pytest.mark.parametrize('name', CONFIGS)
def test_the_features_agree(name, tmp_path):
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    cfg = read_config(f'mmdet::{name}')
    found = find_detector(cfg, name, keep_weights=False)
    text = config_text(found, dry_run(found), str(tmp_path), 1, Schedule(1, 1, 0))
    (tmp_path / 'pretrain.py').write_text(text)
    pretraining = load_config(tmp_path / 'pretrain.py', work_dir=tmp_path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(pretraining.model).eval()
        detector = MODELS.build(without_weights(cfg.model)).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    checkpoint = dict(
        state_dict=model.state_dict(), meta=dict(input_format=model_input_format(model).to_dict())
    )
    conversion = convert_for_model(checkpoint, detector)
    assert conversion.notes == conversion.warnings == ()
    detector.load_state_dict(conversion.state_dict, strict=False)

    image = LoadImage()(dict(img_path=path))['img']
    view = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    data = dict(inputs=[view], data_samples=[ViewPairSample()])
    (view,) = model.data_preprocessor(data)['inputs']
    with DefaultScope.overwrite_default_scope('mmdet'):
        pipeline = Compose([
            dict(type='LoadImageFromFile'),
            dict(type='PackDetInputs', meta_keys=('img_path', 'ori_shape', 'img_shape')),
        ])  # fmt: skip
    packed = pipeline(dict(img_path=path))
    data = dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
    inputs = detector.data_preprocessor(data)['inputs']
    assert inputs.shape == view.shape
    with torch.no_grad():
        expected = detector.extract_feat(inputs)
        actual = model.neck.detector(model.backbone(view))
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()
