default_scope = 'mmpretrain'
# resumes exactly and does not run code from checkpoints
runner_type = 'mmcrosscl.ResumableRunner'
# mmcrosscl/engine/runner/defaults.py has the types and defaults of these hooks. Settings added here
# override the defaults.
default_hooks = dict(
    timer=dict(),
    training_log=dict(),
    logger=dict(),
    progress=dict(),
    param_scheduler=dict(),
    checkpoint=dict(),
    sampler_seed=dict(),
    skipped_images=dict(),
    non_finite=dict(),
    step_seed=dict(),
    resume=dict(),
    preemption=dict(),
)

custom_hooks = []

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # seconds that a process waits for another process that died or hangs
    dist_cfg=dict(backend='nccl', timeout=600),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='mmpretrain.UniversalVisualizer', vis_backends=vis_backends)

# losses, accuracies, times and gradient norms are logged as means over the last 50 iterations
log_processor = dict(window_size=50, mean_pattern=r'.*(loss|acc|time|data_time|grad_norm).*')
log_level = 'INFO'

load_from = None
resume = False

randomness = dict(seed=None, deterministic=False)
