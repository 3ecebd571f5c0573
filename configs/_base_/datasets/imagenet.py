train_pipeline = [
    dict(type='mmcrosscl.LoadImage', min_size=580),
    # flip_prob applies to both views together
    dict(type='mmcrosscl.TwoCrops', scale=224, crop_ratio_range=(0.2, 1.0), flip_prob=0.5),
    dict(type='mmcrosscl.RandomGaussianBlur', sigma_range=(0.1, 2.0), prob=0.5),
    dict(
        type='mmcrosscl.RandomColorJitter',
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        prob=0.8,
    ),
    dict(type='mmcrosscl.RandomGrayscale', prob=0.2),
    dict(type='mmcrosscl.RegionPairs', window=48, stride=32, grid=6, base_size=224),
    dict(type='mmcrosscl.PackViews'),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    # seconds to wait for a batch; then the run ends with an error and can be resumed
    timeout=600,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='mmcrosscl.SeededSampler', shuffle=True),
    collate_fn=dict(type='mmcrosscl.collate_views'),
    dataset=dict(
        type='mmcrosscl.UnlabeledDataset',
        data_root='data/imagenet/',
        data_prefix='train/',
        pipeline=train_pipeline,
    ),
)
