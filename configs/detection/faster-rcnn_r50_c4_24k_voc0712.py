# Faster R-CNN C4, VOC 07+12 trainval to 07 test, 24k iterations of 16 images: the published recipe
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
        # holds the last stage of the checkpoint
        shared_head=dict(
            type='ResLayerExtraNorm',
            norm_cfg=norm_cfg,
            norm_eval=False,
            style='pytorch',
            init_cfg=None,
        ),
    ),
)

# PreciseBNHook reads the batch size of the loader, which is None with a batch sampler
train_dataloader = dict(batch_sampler=None)
# AP averaged over IoU 0.5 to 0.95, in addition to AP50 and AP75
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
# batch-norm statistics of the final weights over 200 batches, before the checkpoint and the test
custom_hooks = [
    dict(
        type='mmpretrain.PreciseBNHook',
        num_samples=3200,
        interval=24000,
        priority='ABOVE_NORMAL',
    ),
]
# lr is for 8 GPUs of 2 images; it is scaled to other batch sizes
auto_scale_lr = dict(enable=True)
