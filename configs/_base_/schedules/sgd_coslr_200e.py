optim_wrapper = dict(
    type='mmcrosscl.FiniteOptimWrapper',
    optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4, fused=True),
)

param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=200, begin=0, end=200, by_epoch=True),
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)

# lr is for 8 processes with 32 images each; `mmcrosscl train --auto-scale-lr` scales lr to other
# batch sizes
auto_scale_lr = dict(enable=False, base_batch_size=256)
