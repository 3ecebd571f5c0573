# Small model and short schedule for `make demo`. Training takes minutes on two CPU cores.
_base_ = ['./r50_8xb32.py', '../_base_/similarity.py']

model = dict(
    queue=dict(length=512),
    backbone=dict(depth=18),
    neck=dict(in_channels=[128, 256, 512], hid_channels=512),
)

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(scale=96)

train_dataloader = dict(
    num_workers=1,
    pin_memory=False,
    # infinite, so that the number of iterations does not depend on the number of images
    sampler=dict(type='mmcrosscl.SeededInfiniteSampler', shuffle=True),
    dataset=dict(data_root='data/demo_sensor/unlabeled/', data_prefix='', pipeline=train_pipeline),
)

similarity_pipeline = _base_.similarity_pipeline
similarity_pipeline[1].update(scale=96)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root='data/demo_sensor/unlabeled/',
        data_prefix='',
        max_images=96,
        pipeline=similarity_pipeline,
    ),
)

optim_wrapper = dict(optimizer=dict(lr=0.03))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=240, begin=0, end=240, by_epoch=False),
]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=240, val_interval=40)

default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=80),
)
custom_hooks = [dict(type='mmcrosscl.SimilarityMapHook')]
log_processor = dict(by_epoch=False, window_size=10)
randomness = dict(seed=0)
