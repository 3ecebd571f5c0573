default_scope = 'mmpretrain'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # mmengine deletes an old checkpoint before it writes the new one: never keep fewer than two
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)

custom_hooks = [dict(type='mmcrosscl.SkippedImagesHook', interval=50)]

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='mmpretrain.UniversalVisualizer', vis_backends=vis_backends)

# losses and accuracies are printed as means over the iterations since the last line or so
log_processor = dict(window_size=50, mean_pattern=r'.*(loss|acc|time|data_time|grad_norm).*')
log_level = 'INFO'

load_from = None
resume = False

randomness = dict(seed=None, deterministic=False)
