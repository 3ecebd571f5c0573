# Faster R-CNN C4, trained on VOC 07+12 trainval and tested on VOC 07 test, with 24k iterations of
# 16 images: the published recipe
_base_ = [
    'mmdet::pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712.py',
    '../_base_/fine_tuning.py',
]
custom_imports = dict(imports=['mmpretrain.models.utils.res_layer_extra_norm'])

norm_cfg = _base_.crosscl_backbone.norm_cfg
model = dict(
    data_preprocessor=_base_.crosscl_preprocessor,
    backbone=_base_.crosscl_backbone,
    roi_head=dict(
        # loads the checkpoint's last ResNet stage
        shared_head=dict(
            type='ResLayerExtraNorm',
            norm_cfg=norm_cfg,
            norm_eval=False,
            style='pytorch',
            init_cfg=None,
        ),
    ),
)

# PreciseBNHook reads the loader's batch size, which is None if the loader has a batch sampler.
train_dataloader = dict(batch_sampler=None)
# for AP averaged over IoU thresholds 0.5 to 0.95, in addition to AP50 and AP75
val_evaluator = dict(iou_thrs=[0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
test_evaluator = val_evaluator

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=24000,
        milestones=[18000, 22000],
        gamma=0.1,
    ),
]
train_cfg = dict(max_iters=24000, val_interval=24000)
default_hooks = dict(
    pretrained=_base_.pretrained_hook,
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(interval=4000),
)
# Recompute the batch-norm statistics with the final weights over 200 batches, before the checkpoint
# is saved and the model is tested.
custom_hooks = [
    dict(
        type='mmpretrain.PreciseBNHook',
        num_samples=3200,
        interval=24000,
        priority='ABOVE_NORMAL',
    ),
]
# lr is for 8 GPUs with 2 images each; it is scaled automatically to other batch sizes
auto_scale_lr = dict(enable=True)
