# Mask R-CNN, 90k iterations of 16 images: the published recipe
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', '../_base_/fine_tuning.py']

model = dict(backbone=_base_.crosscl_backbone)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomChoiceResize',
        scales=[(1333, 640), (1333, 672), (1333, 704), (1333, 736), (1333, 768), (1333, 800)],
        keep_ratio=True,
    ),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.PackDetInputs'),
]
train_dataloader = dict(
    # infinite, because the schedule counts iterations
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(pipeline=train_pipeline),
)

optim_wrapper = dict(optimizer=dict(lr=0.02, weight_decay=2.5e-5))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=90000,
        milestones=[60000, 80000],
        gamma=0.1,
    ),
]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=90000, val_interval=30000)

default_hooks = dict(
    pretrained=_base_.pretrained_hook,
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=10000),
)
log_processor = dict(by_epoch=False)
# lr is for 8 GPUs with 2 images each; it is scaled automatically to other batch sizes
auto_scale_lr = dict(enable=True)
