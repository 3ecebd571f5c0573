# Small detector for the scenes that `mmcrosscl scenes data/scenes` writes, for studies on CPUs
_base_ = './faster-rcnn_r18_demo.py'

train_pipeline = _base_.train_pipeline
train_pipeline[2].update(scale=(192, 192))
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(192, 192))

dataset = dict(
    data_root='data/scenes/',
    metainfo=dict(
        classes=(
            'bird',
            'fish',
            'flower',
            'fruit',
            'insect',
            'mammal',
            'sign',
            'tool',
            'vegetable',
            'vehicle',
        )
    ),
)
train_dataloader = dict(dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        **dataset,
        ann_file='annotations/test.json',
        data_prefix=dict(img='test/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='data/scenes/annotations/test.json')
test_evaluator = val_evaluator
model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
