# ImageNet-1k, 400 epochs
_base_ = './r50_8xb32.py'

param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=400, begin=0, end=400, by_epoch=True),
]
train_cfg = dict(max_epochs=400)
