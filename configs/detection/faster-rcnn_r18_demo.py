# Small detector for the labeled images of `make demo`. Training takes minutes on two CPU cores.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/fine_tuning.py',
]

# the checkpoint of the last `make demo`, which also writes the images
pretrained = 'work_dirs/demo/latest/faster-rcnn_r18_demo_pretrained.pth'

model = dict(
    # BN, because training with one process does not need SyncBN
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    # P3 to P5 only, because no object is small enough for stride 4
    neck=dict(in_channels=[64, 128, 256, 512], start_level=1, num_outs=3),
    rpn_head=dict(anchor_generator=dict(scales=[3], strides=[8, 16, 32])),
    roi_head=dict(
        # one sample per bin, and fewer proposals for NMS, because both are slow on a CPU
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=1), featmap_strides=[8, 16, 32]),
        bbox_head=dict(num_classes=6, fc_out_channels=256),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, max_per_img=200), rcnn=dict(sampler=dict(num=32))
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100)),
)

dataset = dict(
    type='mmdet.CocoDataset',
    data_root='data/demo_objects/',
    metainfo=dict(classes=('brick', 'cat', 'coffee', 'coins', 'grass', 'gravel')),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.Resize', scale=(160, 160)),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(160, 160)),
    # after Resize, so that the labeled boxes keep the coordinates of the image file
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **dataset,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmdet.CocoMetric', ann_file='data/demo_objects/annotations/val.json')
test_evaluator = val_evaluator

train_cfg = dict(type='IterBasedTrainLoop', max_iters=150, val_interval=150)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# AdamW, because it converges within the few iterations of this schedule
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=False, T_max=130, begin=20, end=150),
]
default_hooks = dict(
    pretrained=_base_.pretrained_hook,
    logger=dict(interval=10, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=150),
)
log_processor = dict(by_epoch=False, window_size=10)
randomness = dict(seed=0)
