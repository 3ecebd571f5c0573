default_scope = 'mmpretrain'
# goes on where it was interrupted, and runs no code of a checkpoint's
runner_type = 'mmcrosscl.ResumableRunner'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mmcrosscl.SafeCheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # training stops where more than a tenth of the images cannot be read
    skipped_images=dict(type='mmcrosscl.SkippedImagesHook', interval=50, limit=0.1),
    # training stops after so many updates in a row without a finite loss and gradient
    non_finite=dict(type='mmcrosscl.NonFiniteHook', limit=3),
    preemption=dict(type='mmcrosscl.PreemptionHook'),
    step_seed=dict(type='mmcrosscl.StepSeedHook'),
)

custom_hooks = []

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # seconds that a process waits for one that is gone
    dist_cfg=dict(backend='nccl', timeout=600),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='mmpretrain.UniversalVisualizer', vis_backends=vis_backends)

# losses and accuracies are printed as means over the iterations since the last line or so
log_processor = dict(window_size=50, mean_pattern=r'.*(loss|acc|time|data_time|grad_norm).*')
log_level = 'INFO'

load_from = None
resume = False

randomness = dict(seed=None, deterministic=False)
