# Changes for a short pre-training on small images; see ../evidence.md
model = dict(momentum=0.01)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=20, by_epoch=False),
    dict(type='CosineAnnealingLR', T_max=280, begin=20, end=300, by_epoch=False),
]
train_pipeline = [
    dict(type='mmcrosscl.LoadImage'),
    dict(type='mmcrosscl.TwoCrops', scale=96),
    dict(type='mmcrosscl.RandomGaussianBlur', sigma_range=(0.1, 1.0)),
    dict(type='mmcrosscl.RandomColorJitter'),
    dict(type='mmcrosscl.RandomGrayscale'),
    dict(type='mmcrosscl.RegionPairs'),
    dict(type='mmcrosscl.PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
