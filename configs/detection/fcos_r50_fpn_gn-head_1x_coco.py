# FCOS, on MMDetection's schedule; its own config is for a Caffe backbone
_base_ = ['mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', '../_base_/fine_tuning.py']

model = dict(
    data_preprocessor=_base_.crosscl_preprocessor,
    backbone=_base_.crosscl_backbone,
)
default_hooks = dict(pretrained=_base_.pretrained_hook)
# the learning rate is for 8 GPUs of 2 images and follows the real number
auto_scale_lr = dict(enable=True)
