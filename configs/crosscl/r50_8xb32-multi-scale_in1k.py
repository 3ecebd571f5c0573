# Views of 224, 384 or 480 pixels, chosen at random during training
_base_ = './r50_8xb32.py'

train_pipeline = _base_.train_pipeline
# Large JPEGs are decoded at reduced size. With this min_size, the smallest crop still has
# 480 pixels per side.
train_pipeline[0].update(min_size=1240)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

custom_hooks = [
    dict(type='mmcrosscl.MultiScaleHook', scales=[224, 384, 480]),
]
