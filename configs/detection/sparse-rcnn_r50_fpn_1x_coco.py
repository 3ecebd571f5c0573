# Sparse R-CNN, on MMDetection's schedule
_base_ = ['mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py', '../_base_/fine_tuning.py']

model = dict(backbone=_base_.crosscl_backbone)
default_hooks = dict(pretrained=_base_.pretrained_hook)
# the learning rate is for 8 GPUs of 2 images and follows the real number
auto_scale_lr = dict(enable=True)
