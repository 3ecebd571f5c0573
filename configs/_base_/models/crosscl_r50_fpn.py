model = dict(
    type='mmcrosscl.CrossCL',
    queue=dict(type='mmcrosscl.KeyQueue', length=65536),
    momentum=0.001,
    data_preprocessor=dict(
        type='mmcrosscl.ViewPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(
        type='mmpretrain.ResNet', depth=50, out_indices=(1, 2, 3), zero_init_residual=False
    ),
    neck=dict(
        type='mmcrosscl.CrossCLNeck',
        in_channels=[512, 1024, 2048],
        # name of each pyramid level and its stride in pixels
        levels=dict(p4=16, p3=8),
        out_channels=256,
        hid_channels=2048,
        feat_dim=128,
    ),
    head=dict(
        type='mmcrosscl.CrossCLHead',
        # each term contrasts a query level with a key level, against negatives from one source
        terms=[
            dict(query='global', key='global', negatives='queue'),
            dict(query='p4', key='p4', negatives='all_ranks'),
            dict(query='p3', key='p3', negatives='own_rank'),
            dict(query='p4', key='p3', negatives='own_rank'),
            dict(query='p3', key='p4', negatives='all_ranks'),
        ],
        roi_layer=dict(type='RoIAlign', output_size=1, sampling_ratio=0, aligned=False),
        loss=dict(type='mmcrosscl.InfoNCELoss', temperature=0.2),
    ),
)
