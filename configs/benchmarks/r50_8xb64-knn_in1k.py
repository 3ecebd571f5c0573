# k-nearest-neighbor classification on ImageNet-1k. Nothing is trained; run `mmcrosscl test`.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    '../_base_/default_runtime.py',
    '../_base_/fine_tuning.py',
]

bank = _base_.train_dataloader
bank.sampler.shuffle = False
bank.dataset.pipeline = _base_.test_pipeline

model = dict(
    type='mmcrosscl.KNNClassifier',
    backbone=dict(type='mmpretrain.ResNet', depth=50),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    bank=bank,
    num_classes=1000,
)
default_hooks = dict(pretrained=_base_.pretrained_hook)
custom_hooks = []

# only tested, never trained or validated
train_dataloader = None
val_dataloader = None
val_evaluator = None
test_cfg = dict()
