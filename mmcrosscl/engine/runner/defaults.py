"""The hooks that every run has, in one place.

A config changes one by its name: ``default_hooks = dict(non_finite=dict(limit=5))`` keeps the type
and the other settings given here; with a ``type`` it replaces the hook, with None it removes it.
"""

DEFAULT_HOOKS: dict[str, dict] = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mmcrosscl.SafeCheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # training stops above this share of unreadable images
    skipped_images=dict(type='mmcrosscl.SkippedImagesHook', interval=50, limit=0.1),
    # training stops after so many consecutive NaN/Inf steps
    non_finite=dict(type='mmcrosscl.NonFiniteHook', limit=3),
    step_seed=dict(type='mmcrosscl.StepSeedHook'),
    resume=dict(type='mmcrosscl.ResumeHook'),
    preemption=dict(type='mmcrosscl.PreemptionHook'),
)
