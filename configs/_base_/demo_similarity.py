# Changes of `make demo`: measures and draws the similarity of regions during the pre-training
_base_ = './similarity.py'

similarity_pipeline = _base_.similarity_pipeline
similarity_pipeline[1].update(scale=96)
val_dataloader = dict(
    num_workers=1, dataset=dict(data_prefix='', max_images=96, pipeline=similarity_pipeline)
)
train_cfg = dict(val_interval=20)
default_hooks = dict(logger=dict(interval=5, log_metric_by_epoch=False))
custom_hooks = [dict(type='mmcrosscl.SimilarityMapHook')]
log_processor = dict(window_size=5)
randomness = dict(seed=0)
