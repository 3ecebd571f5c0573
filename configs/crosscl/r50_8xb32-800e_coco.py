# COCO train2017 without labels, 800 epochs
_base_ = './r50_8xb32.py'

train_dataloader = dict(dataset=dict(data_root='data/coco/', data_prefix='train2017/'))

optim_wrapper = dict(optimizer=dict(lr=0.3))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=800, begin=0, end=800, by_epoch=True),
]
train_cfg = dict(max_epochs=800)
