_base_ = [
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    # defines the hook that loads `pretrained`
    'mmcrosscl::_base_/fine_tuning.py',
]

custom_imports = dict(imports=['csv_boxes'])

# None: random weights. To start from a pre-training: --cfg-options pretrained=FILE
pretrained = None
default_hooks = dict(
    pretrained=_base_.pretrained_hook,
    logger=dict(interval=5),
    checkpoint=dict(interval=1000, save_last=True),
)

classes = ('brick', 'cat', 'coffee', 'coins', 'grass', 'gravel')
model = dict(
    # one process does not need SyncBN, and the pre-training replaces the ImageNet weights
    backbone=dict(norm_cfg=dict(type='BN'), init_cfg=None),
    neck=dict(norm_cfg=dict(type='BN')),
    bbox_head=dict(norm_cfg=dict(type='BN'), num_classes=len(classes)),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(160, 160)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(160, 160)),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
dataset = dict(
    _delete_=True,
    type='CsvDataset',
    data_root='data/',
    data_prefix=dict(img='images/'),
    metainfo=dict(classes=classes),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    batch_sampler=None,
    dataset=dict(**dataset, ann_file='train.csv', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(**dataset, ann_file='val.csv', pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP', eval_mode='11points')
test_evaluator = val_evaluator

max_iters = 80
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters
)
log_processor = dict(by_epoch=False)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type='CosineAnnealingLR', by_epoch=False, T_max=max_iters - 10, begin=10, end=max_iters),
]
# the hooks of the inherited config are for 300 epochs
custom_hooks = []
randomness = dict(seed=0)
