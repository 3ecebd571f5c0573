# What the detectors that start from CrossCL have in common; their configs put it into MMDetection's

# any checkpoint that tools/convert.py knows; None is a random start
pretrained = 'work_dirs/r50_8xb32/epoch_200.pth'
pretrained_hook = dict(type='mmcrosscl.PretrainedHook')

# all layers are trained, with the statistics of all GPUs' images
crosscl_backbone = dict(
    frozen_stages=-1,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    norm_eval=False,
    style='pytorch',
    init_cfg=None,
)
# RGB, as in pre-training
crosscl_preprocessor = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
)
