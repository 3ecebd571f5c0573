# Measures the similarity of regions during pre-training, on images of the ImageNet validation set.
# To use it, add this file to the _base_ of a config in configs/crosscl/.
similarity_pipeline = [
    dict(type='mmcrosscl.LoadImage'),
    # crops that are larger than those of training contain more regions of both views
    dict(type='mmcrosscl.TwoCrops', scale=224, crop_ratio_range=(0.6, 1.0)),
    dict(type='mmcrosscl.RandomGaussianBlur'),
    dict(type='mmcrosscl.RandomColorJitter'),
    dict(type='mmcrosscl.RandomGrayscale'),
    dict(type='mmcrosscl.RegionPairs'),
    dict(type='mmcrosscl.PackViews'),
]

val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    sampler=dict(type='mmcrosscl.SeededSampler', shuffle=False, seed=0),
    collate_fn=dict(type='mmcrosscl.collate_views'),
    dataset=dict(
        type='mmcrosscl.UnlabeledDataset',
        data_root='data/imagenet/',
        data_prefix='val/',
        max_images=500,
        pipeline=similarity_pipeline,
    ),
)
val_evaluator = dict(type='mmcrosscl.CrossStageSimilarity')
val_cfg = dict(type='ValLoop')
