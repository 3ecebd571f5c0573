# Linear evaluation on ImageNet-1k: trains a linear classifier on frozen features with MMPretrain's
# schedule
_base_ = [
    'mmpretrain::mocov2/benchmarks/resnet50_8xb32-linear-steplr-100e_in1k.py',
    '../_base_/fine_tuning.py',
]

model = dict(backbone=dict(init_cfg=None))
default_hooks = dict(pretrained=_base_.pretrained_hook)
