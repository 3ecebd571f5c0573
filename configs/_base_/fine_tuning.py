# Settings shared by the configs that start from a CrossCL checkpoint

# checkpoint in any format that `mmcrosscl convert` reads; None for random initialization
pretrained = 'work_dirs/r50_8xb32/epoch_200.pth'
pretrained_hook = dict(type='mmcrosscl.PretrainedHook')

# All layers are trained, and batch statistics are synchronized over all GPUs.
crosscl_backbone = dict(
    frozen_stages=-1,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    norm_eval=False,
    style='pytorch',
    init_cfg=None,
)
# RGB input, as in pre-training
crosscl_preprocessor = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
)
