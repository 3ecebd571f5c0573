"""The default hooks of every run.

A config refers to a default hook by its name. ``default_hooks = dict(non_finite=dict(limit=5))``
changes the limit and keeps the other settings of the hook. A dict with a ``type`` replaces the
hook, and None removes the hook.
"""

DEFAULT_HOOKS: dict[str, dict] = dict(
    timer=dict(type='IterTimerHook'),
    # after the timer, whose times it uses
    training_log=dict(type='mmcrosscl.TrainingLogHook'),
    logger=dict(type='LoggerHook', interval=50),
    progress=dict(type='mmcrosscl.ProgressHook'),
    scalar_history=dict(type='mmcrosscl.ScalarHistoryHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mmcrosscl.SafeCheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # training stops if the share of unreadable images exceeds the limit
    skipped_images=dict(type='mmcrosscl.SkippedImagesHook', interval=50, limit=0.1),
    # training stops after this number of consecutive NaN/Inf steps
    non_finite=dict(type='mmcrosscl.NonFiniteHook', limit=3),
    step_seed=dict(type='mmcrosscl.StepSeedHook'),
    resume=dict(type='mmcrosscl.ResumeHook'),
    preemption=dict(type='mmcrosscl.PreemptionHook'),
)
