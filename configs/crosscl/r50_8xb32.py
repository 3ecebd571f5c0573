# ImageNet-1k, 200 epochs: the published recipe
_base_ = [
    '../_base_/models/crosscl_r50_fpn.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/sgd_coslr_200e.py',
    '../_base_/default_runtime.py',
]
