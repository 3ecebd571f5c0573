# Detector of photographs, with which a study of another sensor begins; see ../evidence.md
_base_ = 'mmcrosscl::detection/faster-rcnn_efficientnet-lite0_scenes.py'

pretrained = 'weights/efficientnet-lite0.pth'
train_cfg = dict(max_iters=1500, val_interval=1500)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=75),
    dict(type='CosineAnnealingLR', by_epoch=False, T_max=1425, begin=75, end=1500),
]
default_hooks = dict(checkpoint=dict(interval=1500))
