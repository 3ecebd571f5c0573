default_scope = 'mmpretrain'
# resumes exactly, and runs no code that a checkpoint contains
runner_type = 'mmcrosscl.ResumableRunner'
# Settings to change; their types and defaults are in mmcrosscl/engine/runner/defaults.py.
default_hooks = dict(
    timer=dict(),
    logger=dict(),
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
    # seconds that a process waits for a dead or stalled one
    dist_cfg=dict(backend='nccl', timeout=600),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='mmpretrain.UniversalVisualizer', vis_backends=vis_backends)

# losses and accuracies are logged as means over the last 50 iterations
log_processor = dict(window_size=50, mean_pattern=r'.*(loss|acc|time|data_time|grad_norm).*')
log_level = 'INFO'

load_from = None
resume = False

randomness = dict(seed=None, deterministic=False)
