# FCOS with MMDetection's schedule. A PyTorch-style ResNet replaces its Caffe-style ResNet.
_base_ = ['mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', '../_base_/fine_tuning.py']

model = dict(
    data_preprocessor=_base_.crosscl_preprocessor,
    backbone=_base_.crosscl_backbone,
)
default_hooks = dict(pretrained=_base_.pretrained_hook)
# lr is for 8 GPUs with 2 images each; it is scaled automatically to other batch sizes
auto_scale_lr = dict(enable=True)
