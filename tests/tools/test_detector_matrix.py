"""One config of each combination of backbone and neck passes tools/detector_matrix.py."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

PATH = Path(__file__).parents[2] / 'tools/detector_matrix.py'
spec = importlib.util.spec_from_file_location('detector_matrix', PATH)
matrix = importlib.util.module_from_spec(spec)
spec.loader.exec_module(matrix)

CONFIGS = [
    'centernet/centernet_r18_8xb16-crop512-140e_coco.py',
    'conditional_detr/conditional-detr_r50_8xb2-50e_coco.py',
    'convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    'cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py',
    'detectors/cascade-rcnn_r50-rfp_1x_coco.py',
    'detectors/cascade-rcnn_r50-sac_1x_coco.py',
    'dino/dino-5scale_swin-l_8xb2-12e_coco.py',
    'dyhead/atss_r50_fpn_dyhead_1x_coco.py',
    'dyhead/atss_swin-l-p4-w12_fpn_dyhead_ms-2x_coco.py',
    'efficientnet/retinanet_effb3_fpn_8xb4-crop896-1x_coco.py',
    'faster_rcnn/faster-rcnn_r50-caffe-c4_ms-1x_coco.py',
    'faster_rcnn/faster-rcnn_x101-32x4d_fpn_1x_coco.py',
    'fpg/faster-rcnn_r50_fpg-chn128_crop640-50e_coco.py',
    'hrnet/faster-rcnn_hrnetv2p-w18-1x_coco.py',
    'libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py',
    'libra_rcnn/libra-faster-rcnn_x101-64x4d_fpn_1x_coco.py',
    'mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py',
    'nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco.py',
    'pafpn/faster-rcnn_r50_pafpn_1x_coco.py',
    'pvt/retinanet_pvt-t_fpn_1x_coco.py',
    'pvt/retinanet_pvtv2-b0_fpn_1x_coco.py',
    'regnet/mask-rcnn_regnetx-400MF_fpn_ms-poly-3x_coco.py',
    'res2net/faster-rcnn_res2net-101_fpn_2x_coco.py',
    'resnest/faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco.py',
    'retinanet/retinanet_r18_fpn_1x_coco.py',
    'rtmdet/rtmdet_l_convnext_b_4xb32-100e_coco.py',
    'rtmdet/rtmdet_l_swin_b_4xb32-100e_coco.py',
    'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'ssd/ssd300_coco.py',
    'ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
    'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
    'timm_example/retinanet_timm-efficientnet-b1_fpn_1x_coco.py',
    'yolo/yolov3_d53_8xb8-320-273e_coco.py',
    'yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py',
    'yolof/yolof_r50-c5_8xb8-1x_coco.py',
    'yolox/yolox_tiny_8xb8-300e_coco.py',
]
# smallest settings that the classes allow; torch needs 16 channels
SMALL = {
    'ResNet': dict(base_channels=16),
    'ResNeXt': dict(base_channels=16, depth=50),
    'Res2Net': dict(depth=50),
    'ResNeSt': dict(base_channels=16),
    'DetectoRS_ResNet': dict(base_channels=16),
    'SwinTransformer': dict(embed_dims=32, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)),
    'HourglassNet': dict(stage_channels=(64,) * 6, feat_channel=64),
    'mmpretrain.ConvNeXt': dict(arch=dict(depths=[1, 1, 1, 1], channels=[32, 64, 128, 256])),
}


def shrink(model):
    backbone, neck = model.backbone, model.get('neck')
    neck = neck[0] if isinstance(neck, list) else neck
    small = SMALL.get(backbone.type)
    # the fields of a RegNet or an 18-layer ResNet are small already
    if small is None or backbone.get('depth') == 18 or neck and neck.type == 'RFP':
        return
    backbone.update(small)
    backbone.pop('init_cfg', None)
    with DefaultScope.overwrite_default_scope('mmdet'), torch.no_grad():
        stages = MODELS.build(backbone)(torch.zeros(2, 3, 128, 128))
    widths = [stage.shape[1] for stage in stages]
    if neck:
        neck.in_channels = widths if isinstance(neck.in_channels, list) else widths[-1]
    for part in model.neck if isinstance(model.get('neck'), list) else ():
        if part.type == 'DyHead':
            part.num_blocks = 1


def with_mark(name):
    # the VGG, which cannot be made smaller, takes minutes
    return pytest.param(name, marks=pytest.mark.soak if 'ssd300' in name else ())


@pytest.mark.slow(12)
@pytest.mark.parametrize('name', [with_mark(name) for name in CONFIGS])
def test_a_combination_builds_trains_and_loads(name):
    result = matrix.check(name, shrink)
    assert all(result[step] for step in matrix.STEPS), result


def test_what_cannot_be_pretrained_has_a_reason():
    result = matrix.check('tridentnet/tridentnet_r50-caffe_1x_coco.py')
    assert not result['builds'] and 'does not return one feature map' in result['reason']


def test_the_table_and_the_rerun(tmp_path, monkeypatch):
    names = ['yolof/yolof_r50-c5_8xb8-1x_coco.py', 'tridentnet/tridentnet_r50-caffe_1x_coco.py']
    results = tmp_path / 'results.jsonl'
    keys = [matrix.same_parts(name) for name in names]
    good = dict.fromkeys(matrix.STEPS, True) | dict(levels='P5', reached=1.0)
    bad = dict.fromkeys(matrix.STEPS, False) | dict(reason='x: it fails')
    lines = [json.dumps(dict(entry, key=key)) for entry, key in zip((good, bad), keys)]
    results.write_text('\n'.join(lines) + '\n')
    # every config is in the file, so nothing is run
    monkeypatch.setattr(matrix, 'check', None)
    text = matrix.table(matrix.run(names, results, jobs=1))
    assert '1 of 2 configs (50.0 %)' in text
    assert '| ResNet | DilatedEncoder | 1 | 1 | 1 | 1 | P5 | 100 % |' in text
    assert '- `tridentnet/tridentnet_r50-caffe_1x_coco.py`: it fails' in text


def test_other_tasks_are_not_detection_configs():
    names = list(matrix.detection_configs())
    assert len(names) > 700 and set(CONFIGS) <= set(names)
    assert not [name for name in names if name.startswith('reid/')]
    assert not [name for name in names if 'bytetrack_yolox' in name]
