# Mask R-CNN on 1 % of COCO's labeled images. MMDetection's tools/misc/split_coco.py writes the
# annotation file.
_base_ = './mask-rcnn_r50_fpn_1x_coco.py'

train_dataloader = dict(dataset=dict(ann_file='semi_anns/instances_train2017.1@1.json'))

param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=9000, milestones=[6000, 8000])
train_cfg = dict(max_iters=9000, val_interval=3000)
default_hooks = dict(checkpoint=dict(interval=3000))
