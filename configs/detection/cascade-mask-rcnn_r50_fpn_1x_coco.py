# Cascade Mask R-CNN with MMDetection's schedule
_base_ = ['mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py', '../_base_/fine_tuning.py']

model = dict(backbone=_base_.crosscl_backbone)
default_hooks = dict(pretrained=_base_.pretrained_hook)
# lr is for 8 GPUs with 2 images each; it is scaled automatically to other batch sizes
auto_scale_lr = dict(enable=True)
